"""nginx on a core of its own, which answers everything at once: how fast can it be asked?"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from serving import wording
from serving.processes import free_port, served

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where a user's path does not lead.
_SYSTEM = ("/usr/sbin", "/usr/local/sbin")
# One process without a master, which stays on the core that it is started on.
_CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 100000000;
  keepalive_timeout 3600s;
  default_type application/json;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{{}}'; }}
    location /v1/models {{ return 200 '{models}'; }}
    location {path} {{ return 200 '{answer}'; }}
  }}
}}
"""


@contextmanager
def nginx(core: int) -> Iterator[str]:
    """Its origin, until the block ends."""
    program = shutil.which("nginx", path=os.pathsep.join([*os.get_exec_path(), *_SYSTEM]))
    if program is None:
        raise SystemExit(
            "rate and connections are measured against nginx, which is not installed: "
            "apt-get install nginx-light, or your system's package. It need not run as a service: "
            "this program starts its own, on a port of loopback"
        )
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="inferload-nginx-") as folder:
        written = _CONFIGURATION.format(
            port=port, models=wording.models(), path=wording.PATH, answer=wording.whole_answer()
        )
        (Path(folder) / "nginx.conf").write_text(written, encoding="utf-8")
        words = [program, "-e", "stderr", "-p", folder, "-c", "nginx.conf"]
        with served(words, port, core):
            yield f"http://127.0.0.1:{port}"
