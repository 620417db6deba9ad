"""Who may include what: the table of the architecture, as data. docs/ARCHITECTURE.md explains it.

A rule is found by the longest matching prefix of a file's path. `own` are prefixes of our headers; a file may always
include its own folder. `system` are patterns of library headers beyond the C++ and C standard libraries.
"""
from dataclasses import dataclass

API = ("dataplane/api/", "dataplane.pb.h")
CORE = ("dataplane/core/", *API)
STAGES = ("dataplane/stages/", *CORE)

BASE = ("tl/*", "fmt/*")
POSIX = ("sys/*", "netinet/*", "arpa/*", "net/*", "unistd.h", "fcntl.h", "poll.h", "pthread.h", "sched.h", "signal.h",
         "netdb.h", "pwd.h", "spawn.h", "ifaddrs.h", "getopt.h", "endian.h", "dirent.h", "syslog.h")
LINUX = ("linux/*", "libmnl/*")
BPF = ("bpf/*", "linux/*")
DPDK = ("rte_*", "bus_*", "ethdev_*")
ASIO = ("boost/*", "openssl/*")
PROTOBUF = ("google/protobuf/*",)
LOG = ("spdlog/*",)
SIMD = ("immintrin.h", "x86intrin.h", "emmintrin.h", "wmmintrin.h")


@dataclass(frozen=True)
class Rule:
    own: tuple[str, ...]
    system: tuple[str, ...]
    why: str


RULES = {
    "dataplane/api/": Rule((*API,), (*BASE, *POSIX, *PROTOBUF),
                           "the interface knows nothing but the standard library, tl::expected, fmt and protobuf"),
    "dataplane/core/": Rule(CORE, (*BASE, *SIMD, "sys/mman.h", "arpa/inet.h", "netinet/*", "endian.h"),
                            "core is pure: bytes and tables, no sockets, no DPDK"),
    "dataplane/stages/": Rule(STAGES, (*BASE, *SIMD), "stages are steps over a batch, without DPDK"),
    "dataplane/bpf/": Rule(("dataplane/bpf/", "dataplane/api/", "steer.skel.h", "guard.skel.h"),
                           (*BASE, *POSIX, *BPF, "xdp/*"), "the steering program and its loader"),
    "dataplane/io/": Rule(("dataplane/io/", "dataplane/bpf/", *STAGES),
                          (*BASE, *POSIX, *LINUX, *DPDK, *PROTOBUF, *LOG, *SIMD, "CLI/*"),
                          "the only folder that may include DPDK"),
    "dataplane/main.cpp": Rule(("dataplane/",), (*BASE, *POSIX, *DPDK, *LOG, "CLI/*"), "wiring of the fast path"),
    "config/": Rule(("config/", "dataplane/api/types.h", "dataplane/api/result.h", "dataplane/api/limits.h"),
                    BASE, "the model knows only the words of dataplane/api"),
    "config/load.cpp": Rule(("config/", "dataplane/api/types.h", "dataplane/api/result.h", "dataplane/api/limits.h"),
                            (*BASE, "toml++/*"), "toml++ stays with what reads sections"),
    "config/section": Rule(("config/", "dataplane/api/types.h", "dataplane/api/result.h", "dataplane/api/limits.h"),
                           (*BASE, "toml++/*"), "toml++ stays with what reads sections"),
    "control/api/": Rule(("control/api/", "dataplane/api/"), (*BASE, "boost/json*", "boost/system/*"),
                         "what lbctl may include: values and their JSON"),
    "control/api/client.cpp": Rule(("control/api/", "dataplane/api/"), (*BASE, *POSIX, "boost/*"),
                                   "the client's end of the API's socket"),
    "control/health/": Rule(("control/health/", "config/model.h", "dataplane/api/", "dataplane/core/"), BASE,
                            "the state machines are pure: no sockets"),
    "control/health/prober": Rule(("control/health/", "config/model.h", "dataplane/api/", "dataplane/core/"),
                                  (*BASE, *POSIX, *ASIO), "probes are sockets"),
    "control/health/probe_": Rule(("control/health/", "config/model.h", "dataplane/api/", "dataplane/core/"),
                                  (*BASE, *POSIX, *ASIO, "linux/sockios.h"), "probes are sockets"),
    "control/health/tunnel": Rule(("control/health/", "config/model.h", "dataplane/api/", "dataplane/core/"),
                                  (*BASE, *POSIX, *LINUX, "boost/*"), "the tunnel's device, rules and sockets"),
    "control/health/grpc_call": Rule(("control/health/", "config/model.h", "dataplane/api/"), (*BASE, "nghttp2/*"),
                                     "HTTP/2 without sockets"),
    "control/health/bfd/runner": Rule(("control/health/", "dataplane/api/"), (*BASE, *POSIX),
                                      "BFD's thread and its sockets"),
    "control/failover/": Rule(("control/failover/", "control/health/", "config/model.h", "dataplane/api/"), BASE,
                              "decisions are pure: no sockets, no clock"),
    "control/plan/": Rule(("control/plan/", "control/failover/", "control/health/", "config/model.h", "dataplane/api/",
                           "dataplane/core/"), BASE, "the planner is pure: no sockets, no clock"),
    "control/": Rule(("control/", "config/", *API), (*BASE, *POSIX, *LINUX, *ASIO, *LOG, "CLI/*"),
                     "the shell around the decisions"),
    "tools/lbctl/": Rule(("tools/lbctl/", "control/api/", "config/", "dataplane/api/"),
                         (*BASE, *POSIX, *ASIO, "CLI/*"), "a thin client of the control process's API"),
    "tools/decap/": Rule(("tools/decap/", "dataplane/api/", "dataplane/core/", "decap.skel.h"),
                         (*BASE, *POSIX, *BPF, "CLI/*"), "runs on backends: libbpf and little else"),
    "tools/netlab/": Rule(("tools/netlab/",), (*BASE, *POSIX, *LINUX), "programs of the lab, apart from the product"),
    "tools/": Rule(("tools/", "control/api/", "config/", "dataplane/api/"), (*BASE, *POSIX, "CLI/*"), "tools"),
    "tests/": Rule(("tests/", "dataplane/", "control/", "config/", "tools/", "dataplane.pb.h"), ("*",),
                   "tests may include what they test"),
}

# Angle brackets are for libraries: the C and C++ standard libraries need no entry above.
STANDARD = frozenset("""
algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono cinttypes climits clocale
cmath codecvt compare complex concepts condition_variable coroutine csetjmp csignal cstdarg cstddef cstdint cstdio cstdlib
cstring ctime deque exception execution filesystem format forward_list fstream functional future initializer_list iomanip
ios iosfwd iostream istream iterator latch limits list locale map memory memory_resource mutex new numbers numeric optional
ostream queue random ranges ratio regex scoped_allocator semaphore set shared_mutex source_location span sstream stack
stdexcept stop_token streambuf string string_view syncstream system_error thread tuple type_traits typeindex typeinfo
unordered_map unordered_set utility valarray variant vector version
assert.h errno.h inttypes.h limits.h math.h stdarg.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h time.h
""".split())
