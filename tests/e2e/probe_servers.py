"""Real servers for probes to ask: nginx with TLS, dnsmasq, and grpc.health.v1 by the grpc library.

As a program it is the gRPC server of one host of a lab:  probe_servers.py KEY CERTIFICATE
"""
import subprocess
import sys
from concurrent import futures
from pathlib import Path

NAME = "talk.example"
HTTPS_PORT, GRPC_PORT, GRPCS_PORT, DNS_PORT = 8443, 50051, 50052, 1053


def certificate(folder: Path) -> tuple[Path, Path]:
    """A new key and a certificate of its own for NAME: paths of both."""
    key, signed = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", str(key), "-out", str(signed), "-days", "30", "-subj", f"/CN={NAME}",
                    "-addext", f"subjectAltName=DNS:{NAME}"], check=True, capture_output=True)
    return key, signed


def health_server(*addresses: str, credentials=None):
    """A started server on plain addresses, or with credentials on all: server, ports, statuses by service name.

    Its two messages are written by hand, so that the tests need no generated code."""
    import grpc

    statuses = {b"": 1}

    def check(request, context):
        name = request[2:] if request else b""
        if name not in statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return bytes([8, statuses[name]]) if statuses[name] else b""

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)})
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((handler,))
    ports = [server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
             for address in addresses]
    server.start()
    return server, ports, statuses


def credentials(key: Path, signed: Path):
    import grpc

    return grpc.ssl_server_credentials([(key.read_bytes(), signed.read_bytes())])


def nginx_config(folder: Path, key: Path, signed: Path) -> str:
    return f"""daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  ssl_certificate {signed};
  ssl_certificate_key {key};
  server {{
    listen {HTTPS_PORT} ssl;
    listen [::]:{HTTPS_PORT} ssl;
    server_name {NAME};
    location = /healthz {{ return 200 "ok\\n"; }}
  }}
  server {{
    listen {HTTPS_PORT} ssl default_server;
    listen [::]:{HTTPS_PORT} ssl default_server;
    location / {{ return 421; }}
  }}
}}
"""


def start_on(lab, nodes, key: Path, signed: Path) -> None:
    """nginx with TLS, dnsmasq and both gRPC servers on these hosts of a lab, on all their addresses; they end with the lab."""
    for node in nodes:
        folder = lab.dir / f"tls-{node}"
        folder.mkdir()
        (folder / "nginx.conf").write_text(nginx_config(folder, key, signed))
        lab.start(f"tls@{node}", node, ["/usr/sbin/nginx", "-p", str(folder), "-e", str(folder / "error.log"),
                                        "-c", str(folder / "nginx.conf")])
        lab.start(f"dns@{node}", node, ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                                        "--no-hosts", f"--port={DNS_PORT}", "--user=root", "--group=root", "--pid-file=",
                                        f"--address=/{NAME}/192.0.2.1"])
        lab.start(f"grpc@{node}", node, ["/usr/bin/python3", str(Path(__file__).resolve()), str(key), str(signed)])


def main() -> None:
    secure = credentials(Path(sys.argv[1]), Path(sys.argv[2]))
    servers = [health_server(f"[::]:{GRPC_PORT}")[0], health_server(f"[::]:{GRPCS_PORT}", credentials=secure)[0]]
    for server in servers:
        server.wait_for_termination()


if __name__ == "__main__":
    main()
