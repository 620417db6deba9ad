"""What tests ask of Detour in a lab: sites, events, times."""
from netlab import report
from netlab.processes import wait_for


def site(lab, name):
    return next(s for s in lab.api("GET", "/v1/sites") if s["name"] == name)


def sites(lab):
    return lab.api("GET", "/v1/sites")


def last_event(lab):
    return lab.api("GET", "/v1/events?limit=1")["last"]


def events(lab, after, kind=None, site_name=None):
    """Those with a number above `after`, oldest first."""
    page = lab.api("GET", f"/v1/events?since={after}&limit=1000")["events"]
    return [e for e in page if kind in (None, e["kind"]) and site_name in (None, e.get("site"))]


def verdicts(lab, after, site_name=None):
    """[(site, verdict)] of the changes since."""
    return [(e["site"], e["data"]["to"]) for e in events(lab, after, "verdict", site_name)]


def verdict_is(lab, name, verdict, seconds=15):
    wait_for(f"{name} {verdict}", lambda: site(lab, name)["verdict"] == verdict, seconds)


def healthy(lab):
    return all(s["verdict"] == "healthy" and s["admit"] >= 1 for s in sites(lab))


def switched_ms(lab, after, name, cut, seconds=15):
    """From a cut to the moment when the last worker had passed the switch of a site."""
    def done():
        return report.find_event(events(lab, after), "switch_done", name, cut.before_ns)
    wait_for(f"the switch of {name}", lambda: done() is not None, seconds)
    return report.ms(report.event_ns(done()) - cut.before_ns)


def loop_lag_seconds(lab):
    return metric(lab, "detour_loop_lag_seconds")


def metric(lab, name):
    """A family of one sample without labels."""
    text = lab.exec("pop", ["curl", "-s", "--unix-socket", str(lab.dir / "control.sock"), "http://detour/metrics"]).stdout
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))
