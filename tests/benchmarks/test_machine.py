from pathlib import Path

from benchmarks.machine import read_hardware, read_versions


def test_hardware_names_the_processor(tmp_path: Path) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nmodel name\t: Fast Chip 9000: turbo\n")
    assert read_hardware(cpu_info).cpu == "Fast Chip 9000: turbo"


def test_hardware_without_a_processor_file_still_has_a_name(tmp_path: Path) -> None:
    assert read_hardware(tmp_path / "none").cpu


def test_versions_name_python_and_torch() -> None:
    versions = read_versions()
    assert versions["python"].startswith("3.")
    assert "torch" in versions
