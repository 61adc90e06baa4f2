"""A caller to be killed: starts private servers, says their addresses, and stays."""

import json
import sys
from pathlib import Path

from bursar.service.servers.running import Wanted, private_servers


def main() -> None:
    with private_servers(Wanted("crash", durable=True, root=Path(sys.argv[1]))) as servers:
        addresses = {"database_url": servers.database_url, "amqp_url": servers.amqp_url}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
