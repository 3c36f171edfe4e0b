"""Writes arrays that grokscope transform must refuse, and some that it must take: malformed.py DIRECTORY"""

import pathlib
import sys

import numpy as np

out = pathlib.Path(sys.argv[1])
x = np.arange(7)
wave = np.cos(2 * np.pi * 3 * (x[:, None] + x) / 7)
np.save(out / "good.npy", wave)
np.savez_compressed(out / "deflated.npz", wave=wave.astype(np.float32), label=np.arange(7))
np.save(out / "fortran.npy", np.asfortranarray(np.stack([wave, 2 * wave.T + np.sin(x)[:, None]], axis=2)))
np.save(out / "plain.npy", np.stack([wave, 2 * wave.T + np.sin(x)[:, None]], axis=2))
# As `export --activations` writes it: 64 units over 64 pairs are not one unit over 4,096.
rows = np.arange(64)
pairs, post = np.stack([rows // 8, rows % 8], axis=1), np.cos(rows[:, None] * (1 + rows))
np.savez(out / "listed.npz", pairs=pairs, labels=rows % 8, post=post)
np.savez(out / "transposed.npz", pairs=pairs[:, ::-1], post=post)
np.savez(out / "twice.npz", pairs=np.where(rows[:, None] == 5, pairs[6], pairs), post=post)
np.savez(out / "from-one.npz", pairs=pairs + 1.0, post=post)
np.savez(out / "pairs-of-text.npz", pairs=pairs.astype(str), post=post)
np.savez(out / "alike.npz", **{"a/b": wave, "a_b": wave, "A_B": wave, "x" * 300: wave})
np.save(out / "integers.npy", (100 * wave).astype(np.int16))
np.save(out / "big-endian.npy", wave.astype(">f8"))

np.save(out / "shape.npy", np.zeros((7, 6)))
np.save(out / "empty.npy", np.zeros((0, 0)))
np.save(out / "flat.npy", np.zeros(49))
np.save(out / "two.npy", np.zeros((2, 2)))
np.save(out / "none.npy", np.zeros((7, 7, 0)))
np.save(out / "nan.npy", np.where(wave > 0.9, np.nan, wave))
np.save(out / "infinite.npy", np.where(wave > 0.9, np.inf, wave))
np.save(out / "object.npy", np.array([[{} for _ in x] for _ in x]), allow_pickle=True)
np.save(out / "text.npy", np.full((7, 7), "a"))
np.save(out / "complex.npy", wave.astype(complex))
np.save(out / "structured.npy", np.zeros((7, 7), dtype=[("a", "f4"), ("b", "f4")]))
whole = (out / "good.npy").read_bytes()
np.save(out / "large.npy", 1e300 * wave)
np.save(out / "tiny.npy", 1e-170 * wave)
(out / "cut-off.npy").write_bytes(whole[:-8])
(out / "cut-header.npy").write_bytes(whole[:20])
archive = (out / "deflated.npz").read_bytes()
(out / "cut-archive.npz").write_bytes(archive[: len(archive) // 2])
(out / "nothing.npz").write_bytes(b"")
(out / "words.npz").write_bytes(b"no archive at all\n" * 9)
np.savez(out / "unsuitable.npz", a=np.zeros(3), b=np.zeros((5, 4)))
np.savez(out / "one-object.npz", a=wave, b=np.array([[None] * 7] * 7, dtype=object))
# A header that announces 3 GB, and one that announces more than any machine has.
for name, shape in [("3gb.npy", "(1000, 1000, 400)"), ("huge.npy", "(3000000, 3000000, 3000000)"),
                    ("wrapping.npy", "(4294967296, 4294967296)"), ("wrapping-units.npy", "(7, 7, 1305670057984)")]:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }" % shape
    header += " " * (-(len(header) + 11) % 64) + "\n"
    (out / name).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
