"""Judges src/train/event_writer by TensorBoard's own reader: tensorboard_oracle.py PATH/TO/event_writer_test."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [program, "--gtest_filter=EventWriter.WritesARunForTensorboard"],
            env={**os.environ, "TEST_TMPDIR": folder + "/"},
            check=True,
        )
        run = Path(folder) / "event_writer_oracle"
        first, second = sorted(run.iterdir())

        events = list(EventFileLoader(str(first)).Load())
        assert [event.step for event in events] == [0, 1, 2, 3, 4, 5, 3], events
        assert events[0].file_version == "brain.Event:2"
        assert all(event.wall_time > 1.5e9 for event in events)
        # Later versions of the reader turn images into tensors: height, width and bytes, as strings.
        [value] = events[-1].summary.value
        assert value.tag == "samples"
        assert list(value.tensor.string_val) == [b"96", b"48", b"\x89PNG\r\n\x1a\n rest"], value

        events = list(EventFileLoader(str(second)).Load())
        assert [event.step for event in events] == [0, 4, 4, 5, 6], events

        accumulator = EventAccumulator(str(run)).Reload()
        loss = [(point.step, point.value) for point in accumulator.Scalars("loss")]
        expected = [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 40.0), (5, 50.0), (6, 60.0)]
        assert [step for step, _ in loss] == [step for step, _ in expected], loss
        # fp32 carries 24 bits.
        assert all(abs(a - b) <= 2**-24 * b for (_, a), (_, b) in zip(loss, expected)), loss
        assert [point.step for point in accumulator.Scalars("lr")] == [4, 5, 6]


if __name__ == "__main__":
    main(sys.argv[1])
