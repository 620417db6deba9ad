#include "tools/lbctl/cli.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>

#include "tools/lbctl/text.h"
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

namespace {

using Run = std::function<ExitCode(const Settings&)>;

std::string environment(const char* name, const char* fallback) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread
    return value == nullptr || *value == '\0' ? fallback : value;
}

/// Sets what the parsed verb will do. Options of a verb live until it has run.
class Verbs {
  public:
    Verbs(CLI::App& app, Run& run) : app_(app), run_(run) {}

    void add_all() {
        add_shows();
        add_events();
        add_incidents();
        add_drains();
        add_overrides();
        add_trace();
        add_capture();
        add_config();
        add_rest();
    }

  private:
    CLI::App* verb(CLI::App& parent, const std::string& name, const std::string& help) {
        CLI::App* command = parent.add_subcommand(name, help);
        command->fallthrough();
        return command;
    }
    template <class Options>
    void runs(CLI::App* command, std::shared_ptr<Options> options,
              ExitCode (*function)(const Settings&, const Options&)) {
        command->callback([this, options, function] {
            run_ = [options, function](const Settings& settings) { return function(settings, *options); };
        });
    }
    void runs(CLI::App* command, ExitCode (*function)(const Settings&)) {
        command->callback([this, function] { run_ = function; });
    }
    static void duration_option(CLI::App* command, const std::string& name, const std::string& help,
                                const std::function<void(std::chrono::milliseconds)>& store) {
        command
            ->add_option_function<std::string>(
                name,
                [name, store](const std::string& text) {
                    const auto duration = parse_duration(text);
                    if (!duration)
                        throw CLI::ValidationError(name, "'" + text + "' is not a duration such as 30m");
                    store(*duration);
                },
                help)
            ->type_name("DURATION");
    }

    void add_shows() {
        runs(verb(app_, "status", "How it is: sites, fast path, drains, alarms"), show_status);
        runs(verb(app_, "sites", "Sites with verdict, admit, tier and domain"), show_sites);
        runs(verb(app_, "flows", "Flows by worker and site"), show_flows);
        const auto add_filtered = [this](const std::string& name, const std::string& help, auto function) {
            auto filter = std::make_shared<Filter>();
            CLI::App* command = verb(app_, name, help);
            command->add_option("--site", filter->site, "Only this site")->type_name("SITE");
            command->add_option("--pool", filter->pool, "Only this pool")->type_name("POOL");
            runs<Filter>(command, filter, function);
        };
        add_filtered("pools", "Pools: where each one's traffic goes", show_pools);
        add_filtered("backends", "Backends with their last probe", show_backends);
    }

    void add_events() {
        auto query = std::make_shared<EventsQuery>();
        CLI::App* command = verb(app_, "events", "What happened, in order");
        command->add_flag("-f,--follow", query->follow, "Go on with what comes");
        command->add_option("--since", query->since, "From 15m ago on, or after the event of this number")
            ->type_name("DURATION|NUMBER");
        command->add_option("--limit", query->limit, "At most so many, without --since 15m")
            ->check(CLI::Range(1, 1'000'000))
            ->type_name("COUNT");
        runs<EventsQuery>(command, query, show_events);
    }

    void add_incidents() {
        auto number = std::make_shared<std::uint64_t>(0);
        CLI::App* command = verb(app_, "incidents", "Failures with their numbers, or the timeline of one");
        command->add_option("number", *number, "Of one incident")->check(CLI::Range(1, 1'000'000'000));
        runs<std::uint64_t>(command, number, show_incidents);
    }

    void add_drains() {
        auto options = std::make_shared<DrainCommand>();
        CLI::App* command =
            verb(app_, "drain", "Take new flows away from a site, pool@site, backend or domain");
        command->add_option("target", options->target, "pangyo, talk@pangyo, 10.1.0.11 or kr/seongnam")
            ->required()
            ->type_name("TARGET");
        duration_option(command, "--for", "It ends by itself after this; default 4h",
                        [options](std::chrono::milliseconds value) { options->duration = value; });
        command->add_option("--reason", options->reason, "For the timeline and those who look later")
            ->type_name("TEXT");
        command->add_flag("--wait", options->wait, "Wait until nothing new arrives and no flow is left");
        duration_option(command, "--timeout", "The longest --wait; default 5m",
                        [options](std::chrono::milliseconds value) { options->timeout = value; });
        command->add_flag("--force", options->force, "Although a rail forbids it");
        command->add_flag("--last-resort", options->last_resort, "It may be used when nothing else is left");
        add_drain_extent(command, options);
        runs<DrainCommand>(command, options, drain);

        auto target = std::make_shared<std::string>();
        CLI::App* back =
            verb(app_, "undrain", "Give its traffic back, by ramp; also to a site that is held back");
        back->add_option("target", *target, "As drained")->required()->type_name("TARGET");
        runs<std::string>(back, target, undrain);
    }

    static void add_drain_extent(CLI::App* command, const std::shared_ptr<DrainCommand>& options) {
        auto* percent =
            command->add_option("--percent", options->percent, "Take away only so much; default 100")
                ->check(CLI::Range(1, 100))
                ->type_name("PERCENT");
        duration_option(command, "--deadline",
                        "Reset established flows that are left after this; default never",
                        [options](std::chrono::milliseconds value) { options->deadline = value; });
        auto* now = command->add_flag("--now", options->now, "Reset established flows at once");
        now->excludes("--deadline")->excludes(percent);
        command->get_option("--deadline")->excludes(percent);
        command->add_flag("--here", options->here, "In this PoP alone");
    }

    void add_overrides() {
        auto options = std::make_shared<HoldCommand>();
        CLI::App* command = verb(app_, "hold", "Stop automation: no site goes dark or comes back unasked");
        duration_option(command, "--for", "It ends by itself after this; default 1h",
                        [options](std::chrono::milliseconds value) { options->duration = value; });
        command->add_option("--reason", options->reason, "For the timeline and those who look later")
            ->type_name("TEXT");
        command->add_flag("--here", options->here, "In this PoP alone");
        runs<HoldCommand>(command, options, hold);
        runs(verb(app_, "release", "Let automation go on"), release);

        auto weighed = std::make_shared<WeightCommand>();
        CLI::App* change =
            verb(app_, "weight", "Another weight than configured, for a while: site, pool@site, backend");
        change->add_option("target", weighed->target, "pangyo, talk@pangyo or 10.1.0.11")
            ->required()
            ->type_name("TARGET");
        change->add_option("weight", weighed->weight, "0 to 65535; the configuration's default is 100")
            ->check(CLI::Range(0, 65535))
            ->type_name("WEIGHT");
        change->add_flag("--clear", weighed->clear, "As configured again");
        duration_option(change, "--for", "It ends by itself after this; default 4h",
                        [weighed](std::chrono::milliseconds value) { weighed->duration = value; });
        change->add_option("--reason", weighed->reason, "For the timeline and those who look later")
            ->type_name("TEXT");
        change->add_flag("--force", weighed->force, "Although a rail forbids it");
        change->add_flag("--here", weighed->here, "In this PoP alone");
        runs<WeightCommand>(change, weighed, weight);
    }

    void add_trace() {
        auto options = std::make_shared<TraceCommand>();
        CLI::App* command = verb(app_, "trace", "What becomes of this packet, by the fast path's own stages");
        auto* source = command->add_option("source", options->source, "198.51.100.7:40000")->type_name("SRC");
        auto* vip = command->add_option("vip", options->vip, "203.0.113.10:443/tcp")->type_name("VIP");
        auto* cid =
            command->add_option("--cid", options->cid, "Of a QUIC packet: its destination connection id");
        cid->type_name("HEX")->needs(vip);
        auto* flags =
            command->add_option("--flags", options->flags, "Of TCP: syn (default), ack, data, fin or rst");
        flags->check(CLI::IsMember({"syn", "ack", "data", "fin", "rst"}))->type_name("FLAGS")->needs(vip);
        command
            ->add_option("--size", options->size, "Of the IP packet, bytes; default: as short as it can be")
            ->check(CLI::Range(20, 9978))
            ->type_name("BYTES")
            ->needs(vip);
        auto* packet =
            command->add_option("--packet", options->packet, "Instead: its bytes, from its IP header on");
        packet->type_name("HEX")->excludes(source)->excludes(vip);
        command
            ->add_flag("--predict", options->predict,
                       "A new flow, from the plan alone: no fast path is asked")
            ->needs(vip)
            ->excludes(flags)
            ->excludes("--size");
        auto* file =
            command->add_option("--file", options->file, "Many: JSON of docs/api.md, - for standard input");
        file->type_name("FILE")->excludes(source)->excludes(vip)->excludes(packet);
        source->needs(vip);
        command->callback([this, options, file] {
            if (file->empty() && options->source.empty() && options->packet.empty())
                throw CLI::RequiredError("SRC VIP, --packet or --file");
            run_ = [options](const Settings& settings) { return trace(settings, *options); };
        });
    }

    void add_capture() {
        auto options = std::make_shared<CaptureCommand>();
        CLI::App* command = verb(app_, "capture", "Packets on the fast path, with what becomes of each");
        command->add_option("--pool", options->pool, "Only this pool's")->type_name("POOL");
        command->add_option("--site", options->site, "Only what goes to this site")->type_name("SITE");
        command->add_option("--reason", options->reason, "Only with this reason, of docs/counters.md")
            ->type_name("REASON");
        command
            ->add_option_function<std::string>(
                "--sample",
                [options](const std::string& text) {
                    const std::string digits = text.starts_with("1/") ? text.substr(2) : text;
                    std::uint32_t sample = 0;
                    const auto [end, error] =
                        std::from_chars(digits.data(), digits.data() + digits.size(), sample);
                    if (error != std::errc{} || end != digits.data() + digits.size() || sample == 0 ||
                        sample > 1'000'000)
                        throw CLI::ValidationError("--sample",
                                                   "'" + text + "' is not 1/N, N from 1 to 1000000");
                    options->sample = sample;
                },
                "One packet of N, at random, before the others are looked at")
            ->type_name("1/N");
        command->add_option("--count", options->count, "End after so many packets")->type_name("COUNT");
        duration_option(command, "--for", "End after this; default: when interrupted",
                        [options](std::chrono::milliseconds value) { options->duration = value; });
        command->add_option("--snap", options->snap, "Bytes kept of each frame; default 192")
            ->check(CLI::Range(64, 2048))
            ->type_name("BYTES");
        auto* file =
            command->add_option("-w,--write", options->file, "To this pcapng file; - is standard output");
        file->type_name("FILE");
        command->add_option("--side", options->side, "What the file has: before, after or both (default)")
            ->check(CLI::IsMember({"before", "after", "both"}))
            ->type_name("SIDE")
            ->needs(file);
        runs<CaptureCommand>(command, options, capture);
    }

    void add_config() {
        CLI::App* command = verb(app_, "config", "Check, show or apply the configuration");
        command->require_subcommand(1);
        auto path = std::make_shared<std::string>();
        CLI::App* check =
            verb(*command, "check", "Every mistake with file, line and column; changes nothing");
        check->add_option("path", *path, "A TOML file or a folder of them")
            ->required()
            ->type_name("FILE|DIR");
        runs<std::string>(check, path, config_check);

        auto options = std::make_shared<ShowConfig>();
        CLI::App* show = verb(*command, "show", "What a file says, or without one what runs");
        auto* shown = show->add_option("path", options->path, "A TOML file or a folder of them");
        shown->type_name("FILE|DIR");
        show->add_flag("--dataplane-args", options->dataplane_args, "The arguments of detour-dataplane")
            ->needs(shown);
        runs<ShowConfig>(show, options, config_show);

        auto other = std::make_shared<std::string>();
        CLI::App* diff = verb(*command, "diff", "What another configuration would move; changes nothing");
        diff->add_option("path", *other, "A TOML file or a folder; default: what apply would load")
            ->type_name("FILE|DIR");
        runs<std::string>(diff, other, config_diff);

        const auto add_apply = [this](CLI::App* apply) {
            auto how = std::make_shared<ApplyConfig>();
            duration_option(apply, "--confirm-within",
                            "Take it back after this, unless config confirm was said",
                            [how](std::chrono::milliseconds value) { how->confirm_within = value; });
            runs<ApplyConfig>(apply, how, reload);
        };
        add_apply(verb(*command, "apply", "Load the configuration from disk; a bad one is refused whole"));
        add_apply(verb(app_, "reload", "As config apply"));
        runs(verb(*command, "confirm", "What was applied with --confirm-within stays"), config_confirm);
    }

    void add_rest() {
        auto domain = std::make_shared<std::string>();
        CLI::App* plan = verb(app_, "plan", "What would happen");
        plan->add_option("--fail", *domain, "If this site or domain failed")->required()->type_name("DOMAIN");
        runs<std::string>(plan, domain, plan_fail);

        runs(verb(app_, "audit", "How redundant each pool is, as a number, by failure domain"), audit);

        auto drilled = std::make_shared<DrillCommand>();
        CLI::App* drills =
            verb(app_, "drill", "Take a domain away from a part of the flows, measure, give it back");
        drills->add_option("target", drilled->target, "A site, pool@site or domain")
            ->required()
            ->type_name("TARGET");
        drills->add_option("--percent", drilled->percent, "Of its new flows; default 1")
            ->check(CLI::Range(1, 100))
            ->type_name("PERCENT");
        duration_option(drills, "--for", "How long; default 1m",
                        [drilled](std::chrono::milliseconds value) { drilled->duration = value; });
        drills->add_option("--reason", drilled->reason, "For the timeline and those who look later")
            ->type_name("TEXT");
        drills->add_flag("--here", drilled->here, "In this PoP alone");
        runs<DrillCommand>(drills, drilled, drill);

        runs(verb(app_, "version", "Of lbctl and of the control process"), show_version);

        auto shell = std::make_shared<std::string>();
        CLI::App* complete = verb(app_, "completion", "A completion script: source <(lbctl completion bash)");
        complete->add_option("shell", *shell, "bash")->required()->check(CLI::IsMember({"bash"}));
        runs<std::string>(complete, shell, completion);

        auto kind = std::make_shared<std::string>();
        CLI::App* listed = verb(app_, "names", "Names for the completion script");
        listed->add_option("kind", *kind)->required()->check(CLI::IsMember({"sites", "pools", "targets"}));
        listed->group("");  // not in the help
        runs<std::string>(listed, kind, names);
    }

    CLI::App& app_;
    Run& run_;
};

Colour colour_of_terminal() {
    const bool off = !environment("NO_COLOR", "").empty() || environment("TERM", "dumb") == "dumb";
    return !off && ::isatty(STDOUT_FILENO) == 1 ? Colour::kOn : Colour::kOff;
}

}  // namespace

tl::expected<Invocation, ExitCode> parse_command_line(int argc, const char* const* argv) {
    Invocation invocation;
    invocation.settings.socket = environment("DETOUR_SOCKET", "/run/detour/control.sock");
    invocation.settings.colour = colour_of_terminal();
    CLI::App app("Operates Detour through the control process on this host.", "lbctl");
    app.footer(
        "Exit codes: 0 done; 1 failed; 2 wrong usage or config; 3 refused by a rail; 4 done here but not "
        "everywhere;\n"
        "5 timed out while waiting (the drain goes on). Environment: DETOUR_SOCKET, NO_COLOR.");
    app.require_subcommand(1);
    app.add_option("--socket", invocation.settings.socket, "The control process's socket")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_option("-o,--output", invocation.settings.output, "table or json")
        ->transform(CLI::CheckedTransformer(
                        std::map<std::string, Output>{{"table", Output::kTable}, {"json", Output::kJson}})
                        .description(""))
        ->type_name("FORM");
    Verbs(app, invocation.run).add_all();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const int code = app.exit(error);
        return tl::unexpected(code == 0 ? ExitCode::kDone : ExitCode::kUsage);
    }
    return invocation;
}

}  // namespace detour::lbctl
