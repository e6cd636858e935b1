"""The upstream and the three proxies of `make bench-endpoint`."""
import json
import os
import pathlib
import socket
import subprocess
import time

NETNS, VETH = "hearth-bench", ("hearth-bench0", "hearth-bench1")
HOST_ADDRESS, UPSTREAM_ADDRESS = "198.51.100.1", "198.51.100.2"
GIB = 1 << 30


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, stderr=None if check else subprocess.DEVNULL)


class Upstream:
    """The server behind all proxies, in a namespace of its own."""

    address = f"{UPSTREAM_ADDRESS}:8080"

    def __init__(self, program: pathlib.Path):
        self.program = program

    def __enter__(self):
        ip("netns", "delete", NETNS, check=False)
        ip("netns", "add", NETNS)
        try:
            ip("link", "add", VETH[0], "type", "veth", "peer", "name", VETH[1], "netns", NETNS)
            ip("address", "add", f"{HOST_ADDRESS}/30", "dev", VETH[0])
            ip("link", "set", VETH[0], "up")
            ip("-n", NETNS, "address", "add", f"{UPSTREAM_ADDRESS}/30", "dev", VETH[1])
            ip("-n", NETNS, "link", "set", VETH[1], "up")
            self.process = subprocess.Popen(["ip", "netns", "exec", NETNS, self.program, "upstream", self.address],
                                            stdout=subprocess.PIPE, text=True)
            assert self.process.stdout.readline() == "ready\n", "the upstream did not start"
        except BaseException:
            ip("netns", "delete", NETNS)
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        ip("netns", "delete", NETNS)


class Proxy:
    """A proxy on a port of loopback. `hosts_file` and `token` are Hearth's: the others do
    not look at them."""

    name: str

    def __init__(self, directory: pathlib.Path, upstream: Upstream, hearth: "Hearth | None" = None):
        self.directory, self.upstream, self.port = directory, upstream, free_port()
        if hearth:
            self.hosts_file, self.host, self.token = hearth.hosts_file, hearth.host, hearth.token
            self.certificate, self.big_file = hearth.certificate, hearth.big_file

    def command(self) -> list:
        raise NotImplementedError

    def __enter__(self):
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL)
        self.wait()
        return self

    def wait(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, f"{self.name} does not listen"
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def restart(self) -> None:
        """A fresh process, whose memory was not used before."""
        self.__exit__()
        self.__enter__()

    def pids(self) -> list[int]:
        """The process and its children."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Proportional set size: what workers share counts once."""
        lines = [line for pid in self.pids() for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Hearth(Proxy):
    """The data plane, with microVMs that are all the upstream."""

    name = "hearth"

    def __init__(self, directory: pathlib.Path, upstream: Upstream, program: pathlib.Path, hosts: int):
        super().__init__(directory, upstream)
        self.program, self.count, self.hosts_file = program, hosts, directory / "hosts.json"
        self.certificate, self.big_file = directory / "nginx.pem", directory / "big"
        with open(self.big_file, "wb") as file:
            file.truncate(GIB)

    def command(self) -> list:
        return [self.program, "proxy", f"127.0.0.1:{self.port}", self.upstream.address, self.directory, str(self.count)]

    def wait(self) -> None:
        super().wait()
        first = json.loads(self.hosts_file.read_text())[0]
        self.host, self.token = first["host"], first["token"]
        suffix = self.host.split(".", 1)[1]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=bench", "-addext", f"subjectAltName=DNS:*.{suffix}", "-keyout", self.directory / "key.pem",
                        "-out", self.directory / "cert.pem"], check=True, stderr=subprocess.DEVNULL)
        self.certificate.write_text((self.directory / "cert.pem").read_text() + (self.directory / "key.pem").read_text())


class Nginx(Proxy):
    name = "nginx"

    def command(self) -> list:
        config = self.directory / "nginx.conf"
        config.write_text(f"""
            daemon off; worker_processes 2; pid {self.directory}/nginx.pid; error_log stderr error;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; client_max_body_size 0; keepalive_requests 100000000; keepalive_timeout 120s;
                client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy;
                fastcgi_temp_path {self.directory}/fastcgi; uwsgi_temp_path {self.directory}/uwsgi; scgi_temp_path {self.directory}/scgi;
                map $http_upgrade $connection_field {{ default upgrade; '' ''; }}
                upstream app {{ server {self.upstream.address}; keepalive 512; keepalive_requests 100000000; }}
                server {{
                    listen 127.0.0.1:{self.port} ssl http2 backlog=4096;
                    ssl_certificate {self.certificate}; ssl_certificate_key {self.certificate};
                    ssl_protocols TLSv1.3;
                    location / {{
                        proxy_pass http://app; proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;
                        proxy_set_header Host $host; proxy_set_header X-Aws-Proxy-Auth '';
                        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_field;
                    }}
                }}
            }}""")
        return ["nginx", "-c", config, "-p", self.directory]


class Haproxy(Proxy):
    name = "haproxy"

    def command(self) -> list:
        config = self.directory / "haproxy.cfg"
        config.write_text(f"""
global
    nbthread 2
    maxconn 4096
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 10s
    timeout client 120s
    timeout server 120s
    timeout tunnel 120s
    http-reuse always
frontend endpoints
    bind 127.0.0.1:{self.port} ssl crt {self.certificate} alpn h2,http/1.1 backlog 4096
    http-request del-header x-aws-proxy-auth
    default_backend app
backend app
    server app {self.upstream.address} pool-max-conn 512
""")
        return ["haproxy", "-db", "-f", config]
