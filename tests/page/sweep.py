"""Opens the page of a sweep in headless Chromium, in four layouts, and follows its links.

Usage: python sweep.py SWEEP_DIR [SCREENSHOT_DIR]
"""

import csv
import pathlib
import sys
import urllib.parse

import page


def main():
    place = pathlib.Path(sys.argv[1]).resolve()
    rows = list(csv.DictReader(open(place / "sweep.csv", newline="")))
    url = (place / "index.html").as_uri()
    driver = page.browser()
    try:
        for width in (1280, 390):
            for dark in (False, True):
                page.check_layout(driver, url, width, dark)
                if len(sys.argv) > 2:
                    page.screenshot(driver, pathlib.Path(sys.argv[2]) / f"sweep-{width}-{'dark' if dark else 'light'}.png", width)
        links = driver.execute_script("return [...document.querySelectorAll('table a')].map((a) => a.getAttribute('href'))")
        begun = [row for row in rows if row["status"] != "waiting"]
        page.require(len(links) == len(begun), f"{len(links)} links in the table, {len(begun)} runs have begun")
        for link in links:
            page.require((place / urllib.parse.unquote(link)).exists(), f"{link} leads nowhere")
        # A diagram for every pair of the fields that vary and are no draws, or for the only one.
        head = list(rows[0])
        varied = [name for name in head[head.index("status") + 1:head.index("phase")] if name not in ("seed", "split")]
        axes = [name for name in varied if len({row[name] for row in rows}) >= 2][:4]
        wanted = len(axes) * (len(axes) - 1) // 2 if len(axes) > 1 else len(axes)
        diagrams = driver.execute_script("return document.querySelectorAll('figure[id^=\"figure-phases\"]').length")
        page.require(diagrams == wanted, f"{diagrams} phase diagrams of {axes}")
        # Every square of a phase diagram is a run, and says which; those of runs that have begun are links.
        for figure in driver.execute_script("""
            return [...document.querySelectorAll('figure[id^="figure-phases"]')].map((figure) => ({
              squares: [...figure.querySelectorAll('rect title')].map((t) => t.textContent),
              rects: [...figure.querySelectorAll('rect:has(title)')].map((r) => ({
                text: r.querySelector('title').textContent, look: r.getAttribute('class'), x: r.getBBox().x, y: r.getBBox().y,
                letter: r.nextElementSibling && r.nextElementSibling.matches('.letter') ? r.nextElementSibling.textContent : '' })),
              legend: [...figure.querySelectorAll('rect.bar:not(:has(title))')].map((r) => [r.nextElementSibling.textContent, r.getAttribute('class')]),
              labels: [...figure.querySelectorAll('text.small[text-anchor=end]')].map((t) => ({ text: t.textContent, y: t.getBBox().y })),
              below: [...figure.querySelectorAll('text.small[text-anchor=middle]')].map((t) => ({ text: t.textContent, x: t.getBBox().x + t.getBBox().width / 2 })),
              links: [...figure.querySelectorAll('svg a')].map((a) => a.getAttribute('href')),
              name: figure.id }))"""):
            page.require(len(figure["squares"]) == len(rows), f"{figure['name']}: {len(figure['squares'])} squares of {len(rows)} runs")
            page.require(sorted(figure["links"]) == sorted(links), f"{figure['name']} links other runs than the table")
            # A square stands over and beside the values that it names, and looks as the legend says.
            legend = dict(figure["legend"])
            down, across = figure["name"].removeprefix("figure-phases-").split("-")[::-1] if len(axes) > 1 else (None, axes[0])
            for rect in figure["rects"]:
                fields = dict(field.rsplit(" ", 1) for field in rect["text"].split(": ")[0].split(", "))
                nearest = min(figure["below"], key=lambda label: abs(label["x"] - rect["x"] - 3))
                page.require(nearest["text"] == fields[across], f"{rect} stands over {nearest}")
                if down:
                    above = min(figure["labels"], key=lambda label: abs(label["y"] - rect["y"]))
                    page.require(above["text"] == fields[down], f"{rect} stands beside {above}")
                kind = rect["text"].split(": ")[1].split(",")[0]
                page.require(rect["look"] == legend.get(kind, "outline"), f"{rect} does not look as {legend}")
                letters = {"comprehension": "C", "grokking": "G", "memorisation": "M", "confusion": "X", "diverged": "D"}
                page.require(rect["letter"] in ("", letters.get(kind)), f"{rect} has another letter")
            for phase in ("comprehension", "grokking", "memorisation", "confusion"):
                named = sum(text.split(": ")[1].split(",")[0] == phase for text in figure["squares"])
                counted = sum(row["phase"] == phase for row in rows)
                page.require(named == counted, f"{figure['name']}: {named} squares of {phase}, {counted} in the table")
        counted = dict(driver.execute_script("return [...document.querySelectorAll('#phases table tr:has(td)')].map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))"))
        for phase in ("comprehension", "grokking", "memorisation", "confusion"):
            page.require(int(counted[phase]) == sum(row["phase"] == phase for row in rows), f"{counted}: {phase}")
        said = driver.execute_script("return document.querySelector('.lead').textContent")
        done = sum(row["status"] == "done" for row in rows)
        page.require(said.startswith(f"{len(rows)} runs: {done} done"), said)
        print(f"page: {len(links)} runs are linked")
    finally:
        driver.quit()


main()
