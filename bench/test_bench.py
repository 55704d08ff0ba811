#!/usr/bin/env python3
"""Tests of the bench's own arithmetic: what it reads of a guest's lines, which factor it makes of the times, when it
calls a figure reached, and that inputs are the same everywhere. Nothing is measured."""

import hashlib
import os
import sys
import tempfile
import unittest
import xml.dom.minidom

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import bench
import inputs
import plot
import report
from workloads import BOOT_MUST, CLASSES, ONCE_MUST_NS, WORKLOADS


def emulator(seconds, boot=1.0, once=50.0):
    return {"version": "some version", "seconds": seconds, "boot_seconds": boot, "memory_mib": 1, "once_ns": once}


def results(**emulators):
    return {"cpu": "a <processor>", "repeats": 3, "times": "wall", "missing": [], "wrong": [],
            "classes": {**{group.name: [] for group in CLASSES}, "calls": ["fib", "tree"], "integer": ["lua"]},
            "native": {"fib": 0.1, "tree": 0.1, "lua": 0.1}, "emulators": emulators}


SOME = {"stag": emulator({"fib": 1.0, "tree": 1.0, "lua": 1.0}),
        "other": emulator({"fib": 0.1, "tree": 0.1, "lua": 0.1}),
        "qemu": emulator({"fib": 9.0, "tree": 2.0, "lua": 4.0}, boot=3.0),
        "qemu-newest": emulator({"fib": 8.0, "tree": 3.0, "lua": 3.0}, boot=2.5)}


class Reading(unittest.TestCase):
    def take(self, *lines):
        measurement = bench.Measurement()
        measurement.take([(time, line) for time, line in lines])
        return measurement

    def test_times_and_sums(self):
        measurement = self.take((0.0, "BENCH START a"), (0.5, "[ 1.0] kernel words"), (1.0, "BENCH END a 12ab 0.990000"),
                                (2.0, "BENCH START a"), (4.0, "BENCH END a 12ab 2.000000"))
        self.assertEqual(measurement.seconds, {"a": [0.99, 2.0]})
        self.assertEqual(measurement.sums, {"a": ["12ab", "12ab"]})
        self.assertFalse(measurement.clock_lies())

    def test_clock_that_lies(self):
        self.assertTrue(self.take((0.0, "BENCH START a"), (2.0, "BENCH END a 0 1.0")).clock_lies())
        self.assertTrue(self.take((0.0, "BENCH START a"), (1.0, "BENCH END a 0 2.0")).clock_lies())

    def test_end_without_start(self):
        self.assertEqual(self.take((0.0, "BENCH END a 0 1.0")).seconds, {})

    def test_median(self):
        self.assertEqual(bench.median([5, 1, 3]), 3)
        self.assertEqual(bench.median([4, 1, 3, 2]), 2.5)


class Judging(unittest.TestCase):
    def verdicts(self, **emulators):
        return {verdict["what"]: verdict for verdict in report.verdicts(results(**emulators))}

    def test_factor_is_over_the_faster_qemu(self):
        self.assertEqual(report.factor(results(**SOME), "fib"), 8)
        self.assertEqual(report.factor(results(**SOME), "tree"), 2)
        self.assertAlmostEqual(report.class_factor(results(**SOME), "calls"), 4)
        self.assertEqual(report.boot_factor(results(**SOME)), 2.5)

    def test_verdicts(self):
        verdicts = self.verdicts(**SOME)
        self.assertTrue(verdicts["calls and dispatch"]["reached"])
        self.assertFalse(verdicts["lua"]["reached"])
        self.assertEqual(verdicts["boot to /init"]["reached"], 2.5 >= BOOT_MUST)
        self.assertAlmostEqual(verdicts["slowest workload (tree)"]["value"], 2)
        self.assertTrue(verdicts["run-once code"]["reached"])
        slow = self.verdicts(**{**SOME, "stag": emulator({"fib": 1, "tree": 2.5}, once=ONCE_MUST_NS + 1)})
        self.assertFalse(slow["slowest workload (tree)"]["reached"])
        self.assertFalse(slow["run-once code"]["reached"])

    def test_no_qemu_no_factor(self):
        self.assertIsNone(report.factor(results(stag=SOME["stag"], other=SOME["other"]), "fib"))
        self.assertEqual(list(self.verdicts(stag=SOME["stag"])), ["run-once code"])

    def test_plot_is_xml_and_shows_every_workload(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "plot.svg")
            self.assertTrue(plot.write(path, results(**SOME)))
            document = xml.dom.minidom.parse(path)
            texts = [node.firstChild.data for node in document.getElementsByTagName("text")]
            for name in ("fib", "tree", "lua", "8.00", "2.00", "3.00"):
                self.assertIn(name, texts)
            self.assertFalse(plot.write(path, results(stag=SOME["stag"])))


class Table(unittest.TestCase):
    def test_rows(self):
        self.assertEqual(len({workload.name for workload in WORKLOADS}), len(WORKLOADS))
        for workload in WORKLOADS:
            self.assertIn(workload.group, {group.name for group in CLASSES})
            self.assertNotIn(" ", workload.name)
            self.assertNotEqual(bool(workload.source), bool(workload.package))
            if workload.source:
                self.assertTrue(os.path.exists(os.path.join(HERE, "micro", workload.source)), workload.name)
        for group in CLASSES:
            self.assertGreaterEqual(sum(workload.quick and workload.group == group.name for workload in WORKLOADS), 3)

    def test_inputs_are_the_same_everywhere(self):
        with tempfile.TemporaryDirectory() as folder:
            inputs.write_all(folder)
            digests = {}
            for name in ("text", "records.csv"):
                with open(os.path.join(folder, name), "rb") as file:
                    digests[name] = hashlib.sha256(file.read()).hexdigest()[:16]
        self.assertEqual(digests, {"text": "96e7c07e2a0f7be8", "records.csv": "348ce957d7788eee"})


if __name__ == "__main__":
    unittest.main()
