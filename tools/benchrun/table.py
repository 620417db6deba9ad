"""Results as a table, and two results compared."""


class Rows:
    COLUMNS = (("scenario", -28), ("net ns", 8), ("min", 7), ("max", 7), ("total", 7), ("instr", 7), ("occupied", 9),
               ("missed", 9), ("evicted", 8))

    @staticmethod
    def _join(cells) -> str:
        return " ".join(f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
                        for cell, (_, width) in zip(cells, Rows.COLUMNS)).rstrip()

    @staticmethod
    def head() -> list[str]:
        return [Rows._join(name for name, _ in Rows.COLUMNS)]

    @staticmethod
    def line(result: dict) -> str:
        low, median, high = result["net_ns"]
        instructions = "-" if result["instructions"] is None else result["instructions"]
        cells = (result["scenario"], f"{median:.1f}", f"{low:.1f}", f"{high:.1f}", f"{result['total_ns'][1]:.1f}",
                 instructions, f"{result['occupancy']:.1%}", f"{result['missed']:.3%}", result["evictions"])
        return Rows._join(cells) + Rows._notes(result)

    @staticmethod
    def stages(result: dict) -> str:
        """Where the time of a row goes; stages that take less than a tenth of a nanosecond are left out."""
        parts = [f"{name} {ns:.1f}" for name, ns in result.get("stages_ns", {}).items() if ns >= 0.1]
        return f"    {', '.join(parts)}" if parts else ""

    @staticmethod
    def _notes(result: dict) -> str:
        """What only rows of this kind have."""
        notes = ""
        if "throughput" in result:
            notes += f"  {result['plans']} plans: {result['throughput'][1]:.1%} of the throughput without, {result['lost']} packets lost"
        if "speedup" in result:
            notes += f"  {result['speedup'][1]:.2f} times one worker"
        return notes + (f"  VOID: {result['void']}" if result["void"] else "")


def compare(old: dict[str, dict], new: list[dict]) -> list[str]:
    """Ratios of the medians, new to old; below 1 is faster. Void rows and rows of one side only are said so."""
    lines = ["", f"{'scenario':<28} {'old':>8} {'new':>8} {'ratio':>7}"]
    for result in new:
        name = result["scenario"]
        before = old.get(name)
        if before is None:
            lines.append(f"{name:<28} not in the old result")
        elif before.get("void") or result["void"]:
            lines.append(f"{name:<28} void")
        else:
            then, now = before["net_ns"][1], result["net_ns"][1]
            ratio = f"{now / then:.2f}" if then > 0 else "-"
            lines.append(f"{name:<28} {then:>8.1f} {now:>8.1f} {ratio:>7}")
    return lines
