"""A short case of scripts/bench-pytorch codec: both programs encode and decode, and the table says how long and in how much memory.

Times are printed, not judged. Memory is counted: ours never exceeds diffusers'.
"""

import re
import subprocess
import sys
import unittest

ROW = re.compile(r"^(encode|decode) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", re.MULTILINE)


class CodecBench(unittest.TestCase):
    def test_short_case(self):
        result = subprocess.run(["scripts/bench-pytorch", "codec", "--frames", "5", "--size", "64x64"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        print(result.stdout)
        rows = ROW.findall(result.stdout)
        self.assertEqual([row[0] for row in rows], ["encode", "decode"], result.stdout)
        for side, *figures in rows:
            ours, theirs, ratio, our_peak, their_peak, peak_ratio = map(float, figures)
            self.assertGreater(min(ours, theirs), 0, side)
            self.assertAlmostEqual(ratio, ours / theirs, delta=0.02 * ratio + 0.01, msg=side)
            self.assertAlmostEqual(peak_ratio, our_peak / their_peak, delta=0.02, msg=side)
            self.assertLess(peak_ratio, 1, side)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
