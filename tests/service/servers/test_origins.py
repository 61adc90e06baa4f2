import pytest

from bursar.service.servers import ServersUnavailable
from bursar.service.servers.origins import Facts, Origin, origins


def facts(*there: str) -> Facts:
    names = ("database_url", "amqp_url", "docker", "postgres", "rabbitmq", "apt")
    assert set(there) <= set(names)
    return Facts(*(name in there for name in names))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (("database_url", "amqp_url", "docker", "postgres", "rabbitmq", "apt"), (Origin.ENVIRONMENT,)),
        (("docker", "postgres", "rabbitmq", "apt"), (Origin.DOCKER, Origin.PRIVATE)),
        (("docker",), (Origin.DOCKER,)),
        (("docker", "apt"), (Origin.DOCKER, Origin.PRIVATE_AFTER_INSTALL)),
        (("postgres", "rabbitmq", "apt"), (Origin.PRIVATE,)),
        (("postgres", "apt"), (Origin.PRIVATE_AFTER_INSTALL,)),
        (("apt",), (Origin.PRIVATE_AFTER_INSTALL,)),
    ],
)
def test_servers_come_from_the_environment_then_docker_then_local_programs_then_apt(
    there: tuple[str, ...], expected: tuple[Origin, ...]
) -> None:
    assert origins(facts(*there)) == expected


@pytest.mark.parametrize(
    ("there", "missing"),
    [((), "PostgreSQL and RabbitMQ"), (("postgres",), "RabbitMQ"), (("rabbitmq",), "PostgreSQL")],
)
def test_with_nothing_to_be_had_one_sentence_says_what_to_install(there: tuple[str, ...], missing: str) -> None:
    with pytest.raises(ServersUnavailable) as refusal:
        origins(facts(*there))
    sentence = str(refusal.value)
    assert sentence.startswith(f"Install {missing} (Debian: apt-get install ")
    assert sentence.count(".") == 1
    assert "\n" not in sentence


@pytest.mark.parametrize(("there", "missing"), [("database_url", "AMQP_URL"), ("amqp_url", "DATABASE_URL")])
def test_one_address_of_the_two_is_a_mistake_and_not_a_wish_for_another_origin(there: str, missing: str) -> None:
    with pytest.raises(ServersUnavailable, match=f"^Set {missing} too"):
        origins(facts(there, "docker", "postgres", "rabbitmq", "apt"))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (("database_url", "docker", "postgres"), (Origin.ENVIRONMENT,)),
        (("docker", "postgres", "apt"), (Origin.DOCKER, Origin.PRIVATE)),
        (("amqp_url", "postgres"), (Origin.PRIVATE,)),
        (("apt",), (Origin.PRIVATE_AFTER_INSTALL,)),
    ],
)
def test_postgres_alone_comes_in_the_same_order(there: tuple[str, ...], expected: tuple[Origin, ...]) -> None:
    assert origins(facts(*there), with_rabbitmq=False) == expected


def test_without_postgres_one_sentence_says_what_to_install() -> None:
    with pytest.raises(ServersUnavailable, match=r"^Install PostgreSQL .* or set DATABASE_URL\.$"):
        origins(facts("rabbitmq"), with_rabbitmq=False)
