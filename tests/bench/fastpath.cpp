// The fast-path benchmark: `bench_fastpath [options]`, one JSON object a line. tools/bench runs it and
// documents it; the first line says how it was measured, each further line is one scenario.
#include <fmt/format.h>
#include <getopt.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <bit>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include "dataplane/io/eal.h"
#include "dataplane/io/huge_pages.h"
#include "tests/bench/measure.h"
#include "tests/bench/rig.h"

namespace detour::bench {
namespace {

constexpr std::size_t kMbufs = 8191;
constexpr std::uint16_t kDataRoom = 3776;  // as the fast path's own pool
constexpr std::size_t kEalBytes = 96U << 20U;
constexpr std::uint64_t kPoolPackets = 6'400'000;
constexpr std::size_t kSlack = 32U << 20U;

struct Options {
    std::vector<std::string> names;
    double seconds = 0.3;  // of each round, with the pipeline
    int rounds = 7;
    std::uint64_t packets = 0;
    std::size_t flows = 0;
    std::size_t table_flows = 0;
    int cpu = -1;
    bool huge = true;
    bool list = false;
};

constexpr auto kUsage =
    "usage: bench_fastpath [--list] [--scenario NAME]... [--seconds S] [--rounds N] [--packets N] [--flows "
    "N]\n"
    "                      [--table-flows N] [--cpu N] [--no-huge]\n";

[[noreturn]] void refuse(const std::string& why) {
    fmt::print(stderr, "bench_fastpath: {}\n{}", why, kUsage);
    std::exit(2);
}

template <class T>
T number(const char* option, const char* text) {
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (*end != '\0' || end == text || !(value >= 0) || value > 1e12)
        refuse(fmt::format("{} takes a number, not \"{}\"", option, text));
    return static_cast<T>(value);
}

Options parse_options(int argc, char** argv) {
    const std::array<option, 10> known{{{"scenario", required_argument, nullptr, 's'},
                                        {"seconds", required_argument, nullptr, 't'},
                                        {"rounds", required_argument, nullptr, 'r'},
                                        {"packets", required_argument, nullptr, 'p'},
                                        {"flows", required_argument, nullptr, 'f'},
                                        {"table-flows", required_argument, nullptr, 'e'},
                                        {"cpu", required_argument, nullptr, 'c'},
                                        {"no-huge", no_argument, nullptr, 'n'},
                                        {"list", no_argument, nullptr, 'l'},
                                        {nullptr, 0, nullptr, 0}}};
    Options o;
    for (int c = 0; (c = ::getopt_long(argc, argv, "", known.data(), nullptr)) != -1;) {
        if (c == 's') o.names.emplace_back(optarg);
        if (c == 't') o.seconds = number<double>("--seconds", optarg);
        if (c == 'r') o.rounds = std::max(1, number<int>("--rounds", optarg));
        if (c == 'p') o.packets = number<std::uint64_t>("--packets", optarg);
        if (c == 'f') o.flows = number<std::size_t>("--flows", optarg);
        if (c == 'e') o.table_flows = number<std::size_t>("--table-flows", optarg);
        if (c == 'c') o.cpu = number<int>("--cpu", optarg);
        if (c == 'n') o.huge = false;
        if (c == 'l') o.list = true;
        if (c == '?') refuse("unknown option");
    }
    if (optind != argc) refuse(fmt::format("what is \"{}\"?", argv[optind]));
    return o;
}

std::vector<Scenario> chosen(const Options& o) {
    std::vector<Scenario> list = scenarios();
    for (const std::string& name : o.names) {
        const bool known =
            std::any_of(list.begin(), list.end(), [&](const Scenario& s) { return s.name == name; });
        if (!known) refuse(fmt::format("there is no scenario \"{}\"; --list names them", name));
    }
    const auto unwanted = [&](const Scenario& s) {
        if (o.names.empty()) return s.only_by_name && !o.list;
        return std::find(o.names.begin(), o.names.end(), s.name) == o.names.end();
    };
    std::erase_if(list, unwanted);
    for (Scenario& s : list) {
        if (o.flows != 0 && s.flows > o.flows) {
            s.flows = o.flows;
            s.table_flows = s.v6 ? 2 * o.flows : o.flows;
        }
        if (o.table_flows != 0) s.table_flows = o.table_flows;
    }
    return list;
}

std::size_t memory_of(const std::vector<Scenario>& list) {
    std::size_t most = 0;
    for (const Scenario& s : list) {
        const std::size_t entries = 2 * std::bit_ceil(s.table_flows);
        most = std::max(most, s.workers * (Traffic::bytes(s) + entries * (s.v6 ? 32U : 16U)));
    }
    return most + kEalBytes + kSlack;
}

/// One CPU for this thread, and DPDK on it and on the second one.
rte_mempool* start(unsigned cpu, std::optional<unsigned> second, bool huge) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0) refuse(fmt::format("CPU {} is not ours to use", cpu));
    std::string lcores = fmt::format("0@{}", cpu);
    if (second) lcores += fmt::format(",{}@{}", kSecondLcore, *second);
    std::vector<std::string> words{"bench_fastpath", "--no-telemetry", "--no-pci",
                                   "--lcores",       lcores,           "--log-level=error"};
    if (huge) {
        words.emplace_back("--in-memory");
    } else {
        words.insert(words.end(), {"--no-huge", "--no-shconf", "-m", fmt::format("{}", kEalBytes >> 20U)});
    }
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (rte_eal_init(static_cast<int>(words.size()), argv.data()) < 0)
        throw std::runtime_error(fmt::format("DPDK does not start: {}", rte_strerror(rte_errno)));
    rte_mempool* pool =
        rte_pktmbuf_pool_create("bench", kMbufs, 256, 0, kDataRoom, static_cast<int>(SOCKET_ID_ANY));
    if (pool == nullptr) throw std::runtime_error(fmt::format("no mbufs: {}", rte_strerror(rte_errno)));
    return pool;
}

volatile std::sig_atomic_t interrupted = 0;

/// A folder for the note that huge pages were added, gone when the process ends.
class NoteFolder {
  public:
    NoteFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "detour-bench.XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        path_ = name;
    }
    ~NoteFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    NoteFolder(const NoteFolder&) = delete;
    NoteFolder& operator=(const NoteFolder&) = delete;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    std::string path_;
};

void run(const Options& options) {
    // Huge pages are given back also when somebody has seen enough.
    std::signal(SIGINT, [](int) { interrupted = 1; });
    std::signal(SIGTERM, [](int) { interrupted = 1; });
    const std::vector<Scenario> list = chosen(options);
    if (options.list) {
        for (const Scenario& s : list) fmt::print("{}\n", s.name);
        return;
    }
    const std::vector<unsigned> allowed = io::allowed_cpus();
    const unsigned cpu = options.cpu >= 0 ? static_cast<unsigned>(options.cpu) : allowed.back();
    std::optional<unsigned> second;
    for (const unsigned other : allowed)
        if (other != cpu) second = other;
    const NoteFolder folder;
    io::HugePages pages(folder.path());
    const bool huge = options.huge && pages.provide(memory_of(list));
    const bool two = std::any_of(list.begin(), list.end(), [](const Scenario& s) { return s.workers > 1; });
    rte_mempool* pool = start(cpu, two ? second : std::nullopt, huge);
    fmt::print(R"({{"cpu": {}, "huge_pages": {}, "burst": {}, "rounds": {}, "take_and_free_ns": {:.2f}}})"
               "\n",
               cpu, huge, api::kMaxBurst, options.rounds,
               pool_cost(pool, options.packets != 0 ? options.packets : kPoolPackets));
    const How how{options.seconds, options.rounds, options.packets, cpu, second, &interrupted};
    for (const Scenario& scenario : list) {
        fmt::print("{}\n", measure(scenario, how, pool));
        std::fflush(stdout);
    }
    rte_mempool_free(pool);
    rte_eal_cleanup();
}

}  // namespace
}  // namespace detour::bench

int main(int argc, char** argv) {
    try {
        detour::bench::run(detour::bench::parse_options(argc, argv));
    } catch (const std::exception& error) {
        fmt::print(stderr, "bench_fastpath: {}\n", error.what());
        return 1;
    }
    return 0;
}
