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
        axes = [name for name in varied if 2 <= len({row[name] for row in rows}) <= 12][:4]
        wanted = len(axes) * (len(axes) - 1) // 2 if len(axes) > 1 else len(axes)
        diagrams = driver.execute_script("return document.querySelectorAll('figure[id^=\"figure-phases\"]').length")
        page.require(diagrams == wanted, f"{diagrams} phase diagrams of {axes}")
        # Every square of a phase diagram is a run, and says which; those of runs that have begun are links.
        for figure in driver.execute_script("""
            return [...document.querySelectorAll('figure[id^="figure-phases"]')].map((figure) => ({
              squares: [...figure.querySelectorAll('rect title')].map((t) => t.textContent),
              links: [...figure.querySelectorAll('svg a')].map((a) => a.getAttribute('href')),
              name: figure.id }))"""):
            page.require(len(figure["squares"]) == len(rows), f"{figure['name']}: {len(figure['squares'])} squares of {len(rows)} runs")
            page.require(sorted(figure["links"]) == sorted(links), f"{figure['name']} links other runs than the table")
            for phase in ("comprehension", "grokking", "memorisation", "confusion"):
                named = sum(text.split(": ")[1].split(",")[0] == phase for text in figure["squares"])
                counted = sum(row["phase"] == phase for row in rows)
                page.require(named == counted, f"{figure['name']}: {named} squares of {phase}, {counted} in the table")
        said = driver.execute_script("return document.querySelector('.lead').textContent")
        done = sum(row["status"] == "done" for row in rows)
        page.require(said.startswith(f"{done} of {len(rows)} runs are done"), said)
        print(f"page: {len(links)} runs are linked")
    finally:
        driver.quit()


main()
