// lbctl completion bash: verbs and options from here, names of sites and pools from the server.
#include "tools/lbctl/verbs.h"

namespace detour::lbctl {

namespace {

constexpr std::string_view kBash = R"bash(# bash completion for lbctl:  source <(lbctl completion bash)
_lbctl() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb="" i
    local verbs="status sites pools backends flows events incidents drain undrain hold release weight trace capture plan audit drill config reload version completion"
    local common="--output --socket --help"
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --output|-o|--socket) ((i++)) ;;
            -*) ;;
            *) verb=${COMP_WORDS[i]}; break ;;
        esac
    done
    case $previous in
        --output|-o) COMPREPLY=($(compgen -W "table json" -- "$word")); return ;;
        --socket|--file|--write|-w) COMPREPLY=($(compgen -f -- "$word")); return ;;
        --for|--timeout|--deadline) COMPREPLY=($(compgen -W "5m 30m 1h 4h" -- "$word")); return ;;
        --site|--fail) COMPREPLY=($(compgen -W "$(lbctl names sites 2>/dev/null)" -- "$word")); return ;;
        --pool) COMPREPLY=($(compgen -W "$(lbctl names pools 2>/dev/null)" -- "$word")); return ;;
    esac
    case $verb in
        "") COMPREPLY=($(compgen -W "$verbs $common" -- "$word")) ;;
        drain)
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W "--for --reason --percent --deadline --now --wait --timeout --force --last-resort --here $common" -- "$word"))
            else
                COMPREPLY=($(compgen -W "$(lbctl names targets 2>/dev/null)" -- "$word"))
            fi ;;
        hold) COMPREPLY=($(compgen -W "--for --reason --here $common" -- "$word")) ;;
        weight)
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W "--clear --for --reason --force --here $common" -- "$word"))
            else
                COMPREPLY=($(compgen -W "$(lbctl names targets 2>/dev/null)" -- "$word"))
            fi ;;
        drill)
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W "--percent --for --reason --here $common" -- "$word"))
            else
                COMPREPLY=($(compgen -W "$(lbctl names targets 2>/dev/null)" -- "$word"))
            fi ;;
        undrain) COMPREPLY=($(compgen -W "$(lbctl names targets 2>/dev/null) $common" -- "$word")) ;;
        events) COMPREPLY=($(compgen -W "--follow --since --limit $common" -- "$word")) ;;
        pools|backends) COMPREPLY=($(compgen -W "--site --pool $common" -- "$word")) ;;
        plan) COMPREPLY=($(compgen -W "--fail $common" -- "$word")) ;;
        trace) COMPREPLY=($(compgen -W "--flags --size --cid --packet --predict --file $common" -- "$word")) ;;
        capture) COMPREPLY=($(compgen -W "--pool --site --reason --sample --count --for --snap --write --side $common" -- "$word")) ;;
        config)
            if [[ $previous == config ]]; then
                COMPREPLY=($(compgen -W "check show diff apply confirm" -- "$word"))
            else
                COMPREPLY=($(compgen -W "--dataplane-args --confirm-within" -- "$word") $(compgen -f -- "$word"))
            fi ;;
        completion) COMPREPLY=($(compgen -W "bash" -- "$word")) ;;
        *) COMPREPLY=($(compgen -W "$common" -- "$word")) ;;
    esac
}
complete -F _lbctl lbctl
)bash";

}  // namespace

ExitCode completion(const Settings& /*settings*/, const std::string& /*shell*/) {
    print(kBash);
    return ExitCode::kDone;
}

}  // namespace detour::lbctl
