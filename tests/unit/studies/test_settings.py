"""What a site may set, and what it is told when it errs."""

from pathlib import Path

import pytest

from studies.errors import ConfigurationError
from studies.settings import Settings, load_settings


def test_a_node_without_settings_listens_on_this_machine_only():
    """Nothing is open to the network until the site says so."""
    settings = load_settings({})

    assert settings.dicom_host == settings.web_host == "127.0.0.1"
    assert {source.host for source in settings.sources} == {"127.0.0.0/8", "::1"}
    assert not settings.open_node


def test_the_environment_is_stronger_than_the_file(tmp_path: Path):
    """A container's variables change what the image's file says."""
    file = tmp_path / "node.toml"
    file.write_text('ae_title = "FROMFILE"\ndicom_port = 4242\n')

    settings = load_settings({"OSTEON_CONFIG": str(file), "OSTEON_AE_TITLE": "FROMENV"})

    assert (settings.ae_title, settings.dicom_port) == ("FROMENV", 4242)


def test_lists_in_variables_are_toml():
    """Sources and destinations can be given without a file."""
    text = '[{ae_title = "PACS", host = "10.0.0.1", port = 104}]'

    settings = load_settings({"OSTEON_DESTINATIONS": text})

    (destination,) = settings.destinations
    assert (destination.name, destination.port) == ("PACS", 104)
    assert settings.destination("PACS") is destination
    assert settings.destination("OTHER") is None


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    (
        ("OSTEON_QUIET_SECOND", "5", "OSTEON_QUIET_SECOND is not a setting"),
        ("OSTEON_DICOM_PORT", "none", "OSTEON_DICOM_PORT: dicom_port"),
        ("OSTEON_DICOM_PORT", "70000", "dicom_port"),
        ("OSTEON_AE_TITLE", "MUCH_TOO_LONG_FOR_AN_AE", "AE title"),
        ("OSTEON_AE_TITLE", "back\\slash", "AE title"),
        ("OSTEON_DEVICE", "tpu", "device"),
        ("OSTEON_SOURCES", '[{ae = "X"}]', "sources.0.ae"),
        ("OSTEON_SOURCES", "nonsense", "OSTEON_SOURCES is not a TOML value"),
        ("OSTEON_SOURCES", '[{host = "10.0.0.0/99"}]', "sources.0.host"),
        ("OSTEON_CONFIG", "/does/not/exist.toml", "/does/not/exist.toml"),
    ),
)
def test_a_wrong_setting_is_named(variable: str, value: str, named: str):
    """The administrator reads which variable and which key to mend."""
    with pytest.raises(ConfigurationError, match=named.replace(".", r"\.")):
        load_settings({variable: value})


def test_an_unknown_key_in_the_file_is_named_with_the_file(tmp_path: Path):
    """A misspelt key must not silently leave a default in force."""
    file = tmp_path / "node.toml"
    file.write_text('quite_seconds = 3\n[[sources]]\nae_title = "A"\n')

    with pytest.raises(ConfigurationError, match=r"node\.toml: quite_seconds"):
        load_settings({}, config=file)


def test_a_broken_file_is_named(tmp_path: Path):
    """TOML that cannot be parsed says which file it is."""
    file = tmp_path / "node.toml"
    file.write_text("ae_title = ")

    with pytest.raises(ConfigurationError, match=r"node\.toml is not valid TOML"):
        load_settings({}, config=file)


def test_two_destinations_of_one_name_are_refused():
    """Deliveries are kept by the destination's name."""
    peer = {"ae_title": "PACS", "host": "localhost", "port": 104}

    with pytest.raises(ValueError, match="PACS"):
        Settings.model_validate({"destinations": [peer, peer]})
