"""The health check of every service's image: exit code 0 when the service in this container says that it is ready."""

import os
import sys
import urllib.request

PORTS = {
    "scim-gateway": ("GATEWAY_PORT", 8080),
    "admin-api": ("ADMIN_PORT", 8081),
    "provisioner": ("HEALTH_PORT", 8082),
}


def main() -> None:
    variable, default = PORTS[os.environ["SERVICE"]]
    url = f"http://127.0.0.1:{os.environ.get(variable, default)}/health/ready"
    try:
        urllib.request.urlopen(url, timeout=4).close()
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
