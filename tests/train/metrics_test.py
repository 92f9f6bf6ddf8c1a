"""What the utilisation of a chip is measured against."""

from types import SimpleNamespace

import jax
import pytest

from lm.train import metrics


@pytest.fixture
def devices_are(monkeypatch):
    def named(kind, platform, processes=1):
        device = SimpleNamespace(device_kind=kind, platform=platform)
        monkeypatch.setattr(jax, "devices", lambda: [device])
        monkeypatch.setattr(jax, "process_count", lambda: processes)

    return named


@pytest.mark.parametrize(
    "kind, teraflops",
    [
        ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835), ("NVIDIA H200", 989), ("TPU v4", 275), ("TPU v5", 459),
        ("TPU v5 lite", 197), ("TPU v6 lite", 918), ("TPU7x", 1153),
    ],
)  # fmt: skip
def test_the_peak_of_a_chip_is_the_published_one_of_its_own_kind(devices_are, kind, teraflops):
    devices_are(kind, "gpu")
    assert metrics.peak_flops(8) == 8 * teraflops * 1e12


@pytest.mark.parametrize("kind", ["NVIDIA A100X", "NVIDIA L4", "TPU v3"])
def test_the_peak_of_a_chip_that_is_not_listed_is_measured_and_counts_each_device(
    devices_are, monkeypatch, kind
):
    monkeypatch.setattr(metrics, "measured_peak", lambda *_: 7e12)
    devices_are(kind, "gpu", processes=2)
    assert metrics.peak_flops(16) == 16 * 7e12


def test_the_devices_of_a_cpu_are_one_processor_in_each_process(devices_are, monkeypatch):
    monkeypatch.setattr(metrics, "measured_peak", lambda *_: 7e9)
    devices_are("cpu", "cpu", processes=2)
    assert metrics.peak_flops(16) == 2 * 7e9


def test_a_measured_peak_is_that_of_a_product():
    assert 1e8 < metrics.measured_peak(256, "float32") < 1e14
