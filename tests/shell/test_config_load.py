"""The configuration: what is read, what wins, and how each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from hl7bridge.config import Config, Listener, load
from hl7bridge.errors import EXIT_CONFIG, ConfigError


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is said of a file, with its name cut down to `f`."""
    file = tmp_path / "site.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    assert caught.value.exit_code == EXIT_CONFIG
    return [line.replace(str(file), "f") for line in caught.value.mistakes]


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    file = tmp_path / "site.yaml"
    file.write_text(text, "utf-8")
    return load(file, environ or {})


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_a_file_the_defaults_hold() -> None:
    assert load(None, {}) == Config()


def test_the_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "hl7bridge.yaml").write_text("drain_timeout: 7", "utf-8")
    assert load(None, {}).drain_timeout == 7


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("drain_timeout: 8", "utf-8")
    assert load(None, {"HL7BRIDGE_CONFIG": str(tmp_path / "other.yaml")}).drain_timeout == 8


def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file or directory"):
        load(Path("absent.yaml"), {})


def test_scalars_keep_their_spelling(tmp_path: Path) -> None:
    config = loaded(tmp_path, "listeners: [{name: NO, versions: [2.3, 2.5.1], port: 1}]\nmappings: {options: {a: 01}}")
    assert config.listeners[0].name == "NO"
    assert config.listeners[0].versions == ("2.3", "2.5.1")
    assert config.mappings.options == {"a": "01"}


def test_a_section_without_keys_keeps_its_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "journal:\nfhir: ~\nlisteners:\n") == Config()


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        load(None, {}).drain_timeout = 1


ONE_MISTAKE = {
    "listeners: [{prot: 1}]": "f:1: listeners.0.prot: unknown key; did you mean 'port'?",
    "retry:\n  zzz: 1": "f:2: retry.zzz: unknown key; known here: cap, circuit_after, circuit_probe, first, give_up_after",
    "lisseners: []": "f:1: lisseners: unknown key; did you mean 'listeners'?",
    "listeners: []": "f:1: listeners: needs at least one listener",
    "listeners: [{port: 70000}]": "f:1: listeners.0.port: must be at most 65535, not '70000'",
    "listeners:\n- port: -1": "f:2: listeners.0.port: must be at least 0, not '-1'",
    "listeners: [{port: six}]": "f:1: listeners.0.port: must be a whole number, not 'six'",
    "listeners: [{require_cr: maybe}]": "f:1: listeners.0.require_cr: must be true or false, not 'maybe'",
    "listeners: [{ack: commited}]": (
        "f:1: listeners.0.ack: must be committed, translated or delivered, not 'commited'"
    ),
    "listeners: [{versions: 2.3}]": "f:1: listeners.0.versions: must be a list, not '2.3'",
    "listeners: [{versions: [2.33]}]": (
        "f:1: listeners.0.versions: '2.33' is no HL7 v2 version; known: 2.1, 2.2, 2.3, 2.3.1, 2.4, 2.5, 2.5.1, 2.6, 2.7, "
        "2.7.1, 2.8, 2.8.1, 2.8.2, 2.9, 2.9.1"
    ),
    "listeners: [{timezone: Mars/Phobos}]": (
        "f:1: listeners.0.timezone: there is no time zone called 'Mars/Phobos'; use a name like Europe/Vienna, or 'machine'"
    ),
    "listeners: [{charset_fallback: latin-eleventy}]": (
        "f:1: listeners.0.charset_fallback: no character set is called 'latin-eleventy'; names are like iso-8859-1 or cp1252"
    ),
    "listeners: [{charset_fallback: base64}]": "f:1: listeners.0.charset_fallback: 'base64' is no character set of texts",
    "listeners: [{name: a b}]": (
        "f:1: listeners.0.name: must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
    ),
    "listeners:\n- {name: a, port: 1}\n- {name: a, port: 2}": (
        "f:3: listeners.1.name: is the name of listeners.0 too; two listeners need two names"
    ),
    "listeners:\n- {name: a, port: 7}\n- {name: b, port: 7}": "f:3: listeners.1.port: port 7 is taken by listeners.0 already",
    "listeners:\n- {port: 9661}": "f:2: listeners.0.port: port 9661 is taken by observe already",
    "listeners: [{tls: {key: k.pem}}]": "f:1: listeners.0.tls.key: a key without a certificate",
    "listeners: [{tls: {certificate: c.pem}}]": "f:1: listeners.0.tls.certificate: a certificate without its key",
    "listeners: [{tls: {minimum: 1.2}}]": (
        "f:1: listeners.0.tls.certificate: a listener with TLS needs a certificate and its key"
    ),
    "listeners: [{tls: {certificate: c, key: k, client: require}}]": (
        "f:1: listeners.0.tls.ca: client: require needs the authorities that are trusted"
    ),
    "listeners: [{tls: {certificate: c, key: k, ca: a}}]": (
        "f:1: listeners.0.tls.ca: is about clients' certificates, and none is asked for; set client: require, or want"
    ),
    "listeners: [{tls: {certificate: c, key: k, minimum: 1.1}}]": (
        "f:1: listeners.0.tls.minimum: must be 1.2 or 1.3, not '1.1'"
    ),
    "listeners: [{tls: {certificate: c, key: k, ca: a, client: want, clients: [{senders: [EPIC]}]}}]": (
        "f:1: listeners.0.tls.clients.0.name: name or fingerprint: one of them says which certificate is meant"
    ),
    "listeners: [{tls: {certificate: c, key: k, ca: a, client: want, clients: [{fingerprint: 'AB:CD'}]}}]": (
        "f:1: listeners.0.tls.clients.0.fingerprint: must be a SHA-256, 64 hexadecimal digits; "
        "`openssl x509 -in FILE -noout -fingerprint -sha256` prints it"
    ),
    "listeners: [{tls: {certificate: c, key: k, ca: a, client: want, clients: [{name: '*.example'}]}}]": (
        "f:1: listeners.0.tls.clients.0.name: must be one whole name; there are no wildcards"
    ),
    "listeners: [{tls: {certificate: c, key: k, ca: a, client: want, clients: [{name: a, senders: ['A|B|C']}]}}]": (
        'f:1: listeners.0.tls.clients.0.senders.0: must be MSH-3 and MSH-4 as "EPIC|LAKESIDE", "EPIC" or '
        '"*|LAKESIDE", their first components'
    ),
    "listeners: [{allow: [10.0.0.5/8]}]": (
        "f:1: listeners.0.allow.0: '10.0.0.5/8' is not the first address of its network; did you mean 10.0.0.0/8?"
    ),
    "listeners: [{allow: [epic.example]}]": (
        "f:1: listeners.0.allow.0: 'epic.example' is no address and no network; such are 10.20.0.7, 10.20.0.0/16, 2001:db8::/32"
    ),
    "listeners: [{overlays: [sites/none]}]": "f:1: listeners.0.overlays.0: there is no folder 'sites/none'",
    "listeners: [{senders: [{overlays: [x]}]}]": "f:1: listeners.0.senders.0.overlays.0: there is no folder 'x'",
    "listeners: [{senders: [{versions: [3.0]}]}]": (
        "f:1: listeners.0.senders.0.versions: '3.0' is no HL7 v2 version; known: 2.1, 2.2, 2.3, 2.3.1, 2.4, 2.5, 2.5.1,"
        " 2.6, 2.7, 2.7.1, 2.8, 2.8.1, 2.8.2, 2.9, 2.9.1"
    ),
    "listeners: [{processing_ids: [X]}]": (
        "f:1: listeners.0.processing_ids: 'X' is no processing id (MSH-11, table 0103): P production, T training, D debugging"
    ),
    "listeners: [{senders: [{processing_ids: []}]}]": (
        "f:1: listeners.0.senders.0.processing_ids: an empty list takes no message at all; leave the key out, or name P, T or D"
    ),
    "listeners: [{senders: [{certificate: epic}]}]": (
        "f:1: listeners.0.senders.0.certificate: the listener asks no sender for a certificate; see tls.client"
    ),
    "listeners: [{senders: [{address: lab.example}]}]": (
        "f:1: listeners.0.senders.0.address: 'lab.example' is no address or network, such as 10.1.2.3 or 10.1.0.0/16"
    ),
    "listeners:\n- senders:\n  - {facility: A}\n  - {facility: A, application: B}": (
        "f:4: listeners.0.senders.1: never counts: senders.0 matches all it matches, and comes before it"
    ),
    "listeners:\n- senders:\n  - {address: 10.1.0.0/16}\n  - {address: 10.1.2.3, application: B}": (
        "f:4: listeners.0.senders.1: never counts: senders.0 matches all it matches, and comes before it"
    ),
    "listeners: [{on_storage_failure: AA}]": (
        "f:1: listeners.0.on_storage_failure: must be AE, AR, CE, CR or close, not 'AA'"
    ),
    "listeners: [{application_acks: {port: 7001}}]": "f:1: listeners.0.application_acks.host: who receives the application ACKs?",
    "listeners: [{senders: [{application_acks: {host: x}}]}]": (
        "f:1: listeners.0.senders.0.application_acks.port: which port receives the application ACKs?"
    ),
    "listeners: [{application_acks: {host: x, port: 7, tls: {key: k}}}]": (
        "f:1: listeners.0.application_acks.tls.key: a key without a certificate"
    ),
    "listeners: [{fragment_timeout: 4000}]": "f:1: listeners.0.fragment_timeout: must be at most 3600, not '4000'",
    "listeners: [{ne_al: never}]": (
        "f:1: listeners.0.ne_al: must be by-version, same-connection or separate, not 'never'"
    ),
    "listeners: [{frame_timeout: 400}]": "f:1: listeners.0.frame_timeout: is longer than total_frame_timeout",
    "mappings: {path: nowhere}": "f:1: mappings.path: there is no folder 'nowhere'",
    "fhir: {base_url: 'ftp://x'}": "f:1: fhir.base_url: must be http://…, https://… or file:FOLDER",
    "fhir: {base_url: fhir.example}": "f:1: fhir.base_url: must be http://…, https://… or file:FOLDER",
    "fhir: {base_url: 'file:'}": "f:1: fhir.base_url: file: needs a folder behind it, such as file:./var/out",
    "fhir: {base_url: 'https://x/r4?a=b'}": "f:1: fhir.base_url: is the base of a FHIR server and has no '?' or '#'",
    "fhir: {base_url: 'https://u:pw@x/r4'}": (
        "f:1: fhir.base_url: a secret is not written here; use basic_user and basic_password"
    ),
    "fhir: {base_url: 'http://x', tls: {}}": "f:1: fhir.tls: is set, but base_url is http, not https",
    "fhir: {basic_user: u}": "f:1: fhir.basic_user: needs basic_password (file:… or env:…)",
    "fhir: {basic_password: 'env:P'}": "f:1: fhir.basic_password: needs basic_user",
    "fhir: {bearer_token: 'env:T', basic_user: u, basic_password: 'env:P'}": (
        "f:1: fhir.bearer_token: either a bearer token or basic authentication, not both"
    ),
    "fhir: {base_url: 'https://x', smart: {keys: ['file:k']}}": (
        "f:1: fhir.smart.client_id: is needed: the name the server's people registered"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c}}": (
        "f:1: fhir.smart.keys: needs a key, such as file:/etc/hl7bridge/smart.pem; `hl7bridge endpoint key` makes one"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: [k.pem]}}": (
        "f:1: fhir.smart.keys.0: a secret is not written here; give its place as file:PATH or env:NAME"
    ),
    "fhir: {smart: {client_id: c, keys: ['file:k']}}": (
        "f:1: fhir.smart: is set, but base_url is a folder, not a server"
    ),
    "fhir: {base_url: 'https://x', bearer_token: 'env:T', smart: {client_id: c, keys: ['file:k']}}": (
        "f:1: fhir.smart: either smart, a bearer token or basic authentication, not two of them"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: ['file:k'], scopes: ['a b']}}": (
        "f:1: fhir.smart.scopes.0: is no scope; one item a scope, such as system/Patient.cruds"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: ['file:k'], scopes: []}}": (
        "f:1: fhir.smart.scopes: needs at least one scope, such as system/*.cruds"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: ['file:k'], token_url: 'https://u:p@x/'}}": (
        "f:1: fhir.smart.token_url: must be http://… or https://…, without user, password and '#'"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: ['file:k'], parameters: {scope: a}}}": (
        "f:1: fhir.smart.parameters.scope: is set by hl7bridge itself"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: ['file:k'], parameters: {client_secret: a}}}": (
        "f:1: fhir.smart.parameters.client_secret: a secret is not written here; SMART signs with keys instead"
    ),
    "fhir: {base_url: 'https://x', smart: {client_id: c, keys: ['file:k'], tls: {key: k}}}": (
        "f:1: fhir.smart.tls.key: a key without a certificate"
    ),
    "fhir: {headers: {X-Api-Key: abc}}": (
        "f:1: fhir.headers.X-Api-Key: a secret is not written here; give its place as file:PATH or env:NAME"
    ),
    "fhir: {headers: {'X Y': abc}}": "f:1: fhir.headers.X Y: is no HTTP header name",
    "fhir: {concurrency: 0}": "f:1: fhir.concurrency: must be at least 1, not '0'",
    "retry: {first: 0}": "f:1: retry.first: must be greater than 0, not '0'",
    "retry: {first: 10, cap: 5}": "f:1: retry.first: is longer than retry.cap (5)",
    "retry: 5": "f:1: retry: must hold keys, not '5'",
    "journal: [a]": "f:1: journal: must hold keys",
    "drain_timeout: 1\ndrain_timeout: 2": "f:2: drain_timeout: stands here twice",
    "- a": "f:1: must hold keys, such as `journal:`",
    "a: [": "f:1: not YAML: expected the node content, but found '<stream end>'",
    "journal:\n\tpath: x": "f:2: not YAML: found character '\\t' that cannot start any token",
}


@pytest.mark.parametrize(("text", "expected"), ONE_MISTAKE.items(), ids=range(len(ONE_MISTAKE)))
def test_a_mistake_is_told_with_its_file_line_key_and_reason(tmp_path: Path, text: str, expected: str) -> None:
    assert mistakes(tmp_path, text) == [expected]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "retry: {first: x}\nfhir: {base_url: ftp:x}\nlisteners:\n- {port: 9661, prot: 1}\n"
    assert mistakes(tmp_path, text, {"HL7BRIDGE_JOURNAL__PAHT": "x"}) == [
        "f:1: retry.first: must be a number, not 'x'",
        "f:2: fhir.base_url: must be http://…, https://… or file:FOLDER",
        "f:4: listeners.0.prot: unknown key; did you mean 'port'?",
        "environment HL7BRIDGE_JOURNAL__PAHT: unknown key; did you mean 'HL7BRIDGE_JOURNAL__PATH'?",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "fhir: {bearer_token: SENTINEL}",
        "fhir: {basic_user: u, basic_password: SENTINEL}",
        "fhir: {headers: {Authorization: SENTINEL}}",
        "fhir: {headers: {X: [SENTINEL]}}",
        "fhir: {base_url: 'https://user:SENTINEL@x/r4'}",
    ],
)
def test_a_literal_secret_is_refused_and_never_repeated(tmp_path: Path, text: str) -> None:
    assert "SENTINEL" not in "".join(mistakes(tmp_path, text))


def test_references_of_secrets_are_taken(tmp_path: Path) -> None:
    config = loaded(tmp_path, "fhir: {bearer_token: 'file:/run/secrets/token', headers: {X-Api-Key: 'env:KEY'}}")
    assert config.fhir.bearer_token is not None
    assert config.fhir.bearer_token.get_secret_value() == "file:/run/secrets/token"
    assert "/run/secrets" not in repr(config)


# ---- the environment ----


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {"HL7BRIDGE_FHIR__BASE_URL": "https://fhir.example/r4", "HL7BRIDGE_LISTENERS__0__PORT": "7001"}
    config = loaded(tmp_path, "fhir: {base_url: 'file:./x', timeout: 3}\nlisteners: [{name: adt, port: 1}]", environ)
    assert (config.fhir.base_url, config.fhir.timeout) == ("https://fhir.example/r4", 3)
    assert (config.listeners[0].name, config.listeners[0].port) == ("adt", 7001)


def test_an_index_past_the_end_adds_an_item() -> None:
    config = load(None, {"HL7BRIDGE_LISTENERS__0__PORT": "1", "HL7BRIDGE_LISTENERS__1": "{name: b, port: 2}"})
    assert config.listeners == (Listener(port=1), Listener(name="b", port=2))


def test_lists_and_free_names_come_from_the_environment() -> None:
    config = load(
        None,
        {
            "HL7BRIDGE_LISTENERS": "[{name: a, port: 5}]",
            "HL7BRIDGE_LISTENERS__0__VERSIONS": "2.3, 2.5.1",
            "HL7BRIDGE_LISTENERS__0__PROCESSING_IDS": "[P]",
            "HL7BRIDGE_FHIR__HEADERS__X_TENANT": "north",
            "HL7BRIDGE_MAPPINGS__OPTIONS__SSN_COUNTRY": "other",
            "HL7BRIDGE_LISTENERS__0__VALIDATE": "warn",
        },
    )
    assert config.listeners[0].versions == ("2.3", "2.5.1")
    assert config.listeners[0].processing_ids == ("P",)
    assert config.listeners[0].validate_ == "warn"
    assert config.fhir.headers == {"x-tenant": "north"}
    assert config.mappings.options == {"ssn-country": "other"}


def test_an_empty_variable_is_not_set() -> None:
    assert load(None, {"HL7BRIDGE_JOURNAL__PATH": " "}) == Config()


def test_names_that_kubernetes_and_the_tests_set_are_no_keys() -> None:
    environ = {
        "HL7BRIDGE_SERVICE_HOST": "10.0.0.1",
        "HL7BRIDGE_PORT": "tcp://10.0.0.1:6661",
        "HL7BRIDGE_PORT_6661_TCP_ADDR": "10.0.0.1",
        "HL7BRIDGE_CORPUS": "x",
        "HL7BRIDGE_SERVERS": "x",
        "UNRELATED": "x",
    }
    assert load(None, environ) == Config()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HL7BRIDGE_PORT", "6661", "unknown key"),
        ("HL7BRIDGE_FHIR__BASEURL", "x", "unknown key; did you mean 'HL7BRIDGE_FHIR__BASE_URL'?"),
        ("HL7BRIDGE_LISTENERS__PORT", "1", "unknown key; digits name an item of a list"),
        ("HL7BRIDGE_LISTENERS__3__PORT", "1", "index 3, but the list has only 0 items"),
        ("HL7BRIDGE_LISTENERS__0__PORT", "x", "must be a whole number, not 'x'"),
        ("HL7BRIDGE_FHIR__BEARER_TOKEN", "SENTINEL", "a secret is not written here"),
    ],
)
def test_a_mistake_in_the_environment_names_its_variable(name: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {name: value})
    (text,) = caught.value.mistakes
    assert text.startswith(f"environment {name}: {expected}")
    assert "SENTINEL" not in text
