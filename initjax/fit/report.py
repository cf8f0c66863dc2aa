"""What a fit found, in words, as a table for a terminal, and as one self-contained HTML page."""

import base64
import io
import math
import pathlib
import statistics
from collections import Counter

import numpy as np

from initjax.distributions.laws import LAWS
from initjax.fit import pictures as pictures
from initjax.fit.findings import Findings
from initjax.fit.selection import NOT_ASKED
from initjax.support.pages import escape, page
from initjax.support.tables import align
from initjax.support.text import printable

POWER_LAWS = {
    "power_law": "a pure power law",
    "truncated_power_law": "a sharply truncated power law",
    "cutoff_power_law": "a power law with an exponential cut-off",
}
_MIN_LAYERS = 4  # fewer say nothing about a correlation
_MANY_ZEROS = 0.01
_MAX_WIDTH = 60  # of a layer's name in the table
_MAX_REASONS = 10  # for which tensors are left out, in a terminal
_MAX_NAMES = 3  # of what is left out for one of them
_COMPATIBLE = 0.1  # a tail whose p is above this is compatible with a power law


def verdict(found: Findings) -> list[str]:
    """The answer in words: is it a power law, where, and by how much."""
    layers = found.layers
    wins = Counter(layer.best for layer in layers)
    best = [layer for layer in layers if layer.best in POWER_LAWS]
    where = [layer for layer in best if _is_power_law(layer)]
    power = len(where)
    number, weights = len(layers), sum(layer.size for layer in layers)
    if power > number / 2:
        answer = "In most layers"
    elif power > number / 10:
        answer = "In some layers"
    else:
        answer = "Hardly anywhere" if power else "No"
    sentences = [
        f"Is the law of these weights a power law? {answer}. Of {_count(number, 'layer')}"
        f" ({weights:,} weights) the best of {len(LAWS)} laws by AIC is "
        + ", ".join(f"{text} in {wins[law]}" for law, text in POWER_LAWS.items())
        + "; most often it is "
        + ", ".join(f"{law} ({times})" for law, times in wins.most_common(3))
        + "."
    ]
    if others := [layer for layer in best if not _is_power_law(layer)]:
        examples = "; ".join(
            f"{layer.path}, where {layer.claim.against[0]}" for layer in others[:3] if layer.claim
        )
        sentences.append(
            f"Not counted: {_count(len(others), 'layer')} in which a power law is the best law, but"
            f" not a good one{f': {examples}' if examples else ''}."
        )
    if power:
        shown = ", ".join(f"{layer.path} ({_alpha(layer)})" for layer in where[:6])
        sentences.append(f"Where: {shown}{', ...' if len(where) > 6 else ''}.")
    sentences.append(_by_how_much(layers))
    sentences += filter(
        None,
        [
            _zeros(layers),
            _discrete(layers),
            _tails(layers),
            _slopes(layers),
            _scale_mixture(layers),
        ],
    )
    sentences.append(
        "Standard errors, AIC and p take the weights of a layer as independent, which trained"
        " weights are not: they describe, they do not prove."
    )
    return sentences


def _is_power_law(layer) -> bool:
    """Whether the best law, a power law, is also a good one, of a size that can tell."""
    return layer.claim is not None and layer.claim.holds


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _alpha(layer):
    return f"alpha {layer.best_law.parameters['alpha']:.2f}"


def _median_range(values):
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{statistics.median(values):.3g} in the median ({min(values):.3g} to {max(values):.3g})"


def _by_how_much(layers):
    distances = [layer.best_law.ks for layer in layers]
    distance = f"The best law's distance from the weights (KS) is {_median_range(distances)}."
    sharp = [layer.laws.get("truncated_power_law") for layer in layers]
    gains, sharp = (
        [fit.nats_over_normal for fit in fits if fit and fit.nats_over_normal is not None]
        for fits in ([layer.best_law for layer in layers], sharp)
    )
    if not (gains and sharp):  # a law that could not be fitted in any layer
        return distance
    return (
        f"By how much: the best law explains a weight better than the normal law by"
        f" {_median_range(gains)} nats; the sharply truncated power law by {_median_range(sharp)},"
        f" worse than normal in {sum(value < 0 for value in sharp)} of {len(sharp)}. {distance}"
    )


def _discrete(layers):
    """Which layers are quantized or rounded, by how they are."""
    grids: dict[str, list[str]] = {}
    for layer in layers:
        if layer.grid and layer.grid.kind not in ("pruned", "gap"):
            grids.setdefault(_KINDS.get(layer.grid.kind, layer.grid.kind), []).append(layer.path)
    if not grids:
        return None
    said = "; ".join(
        f"{kind} in {_count(len(paths), 'layer')}"
        f" ({', '.join(paths[:2])}{', ...' * (len(paths) > 2)})"
        for kind, paths in grids.items()
    )
    return f"Discrete: {said}. Laws are fitted to the cells of the sizes, where these are known."


def _zeros(layers):
    pruned = [layer for layer in layers if layer.zeros > _MANY_ZEROS * layer.size]
    if not pruned:
        return None
    share = _median_range([100 * layer.zeros / layer.size for layer in pruned])
    return (
        f"Zeros: {_count(len(pruned), 'layer')} of weights that are exactly 0 in more than"
        f" {_MANY_ZEROS:.0%}: {share} %. Laws are those of the other weights."
    )


def _tails(layers):
    tails = [layer.tail for layer in layers if layer.tail]
    tested = [tail for tail in tails if tail.bootstraps]
    if not tested:
        return None
    compatible = [tail for tail in tested if tail.p > _COMPATIBLE]
    text = (
        f"Far tails: beyond an xmin that is searched, {len(compatible)} of {len(tested)} are"
        f" compatible with a power law (p > {_COMPATIBLE})"
    )
    if compatible:
        alphas = [tail.alpha for tail in compatible]
        share = statistics.median(tail.fraction for tail in compatible)
        text += (
            f", of alpha {min(alphas):.1f} to {max(alphas):.1f}, for {share:.2%} of the weights"
            " in the median"
        )
    control = [tail.gaussian_p for tail in tested if tail.gaussian_p is not None]
    if control:
        text += (
            f"; of as many Gaussian samples of these sizes, which have no power law,"
            f" {sum(p > _COMPATIBLE for p in control)} of {len(control)} are"
        )
    return text + "."


def _slopes(layers):
    slopes = [layer.slope for layer in layers if layer.slope]
    measured = [slope.measured for slope in slopes]
    control = [slope.gaussian_mean for slope in slopes]
    if not slopes:
        return None
    text = (
        f"Slopes of log-log histograms are {min(measured):.2f} to {max(measured):.2f}; those of as"
        f" many Gaussian samples, which have no power law, {min(control):.2f} to {max(control):.2f}"
    )
    if len(slopes) >= _MIN_LAYERS and np.std(control) > 0 and np.std(measured) > 0:
        text += f" (correlation {np.corrcoef(measured, control)[0, 1]:.2f})"
    return text + "."


def _scale_mixture(layers):
    heavy = [layer.scales for layer in layers if layer.scales and layer.scales.kurtosis > 3.5]
    if not heavy:
        return None
    before = [scale.kurtosis for scale in heavy]
    after = [scale.kurtosis_without_both for scale in heavy]
    return (
        f"Scales: in {_count(len(heavy), 'layer')} of kurtosis above 3.5 it is"
        f" {_median_range(before)}, and {_median_range(after)} after the scales of kernel positions"
        " and output channels are divided out."
    )


_HEADER = (
    *("layer", "axes", "fan in", "weights", "zeros", "w < 0", "w > 0", "grid", "kurtosis"),
    *("best law", "KS", "parameters", "nats/w", "tail"),
)
_NUMBERS = (2, 3, 4, 5, 6, 8, 10, 12)  # columns
_KINDS = {
    "step": "multiples of a step",
    "channels": "steps of each channel or group",
    "sizes": "few sizes",
}


def _rows(found):
    names = pictures.short_names([layer.path for layer in found.layers], _MAX_WIDTH)
    yield from (
        (name, _axes(layer), f"{layer.fan_in:,}" if layer.fan_in else "-", *_cells(layer))
        for name, layer in zip(names, found.layers, strict=True)
    )
    yield "all layers", "", "", *_cells(found.pool)


def _axes(layer):
    return layer.axes or ("?" if len(layer.shape) > 1 else "-")


def _cells(layer):
    best = layer.best_law
    parameters = [
        f"{name} {value:.4g}" + _error(best.standard_errors[name])
        for name, value in best.parameters.items()
        if not math.isnan(value)
    ]
    if best.limit:
        parameters.insert(0, f"at its limit {best.limit}")
    if best.converged is False:
        parameters.append("not converged")
    sides, gain = layer.sides, best.nats_over_normal
    return (
        f"{layer.size:,}",
        f"{layer.zeros:,} ({layer.zeros / layer.size:.1%})" if layer.zeros else "0",
        f"{sides.negative:,}" if sides else "-",
        f"{sides.positive:,}" if sides else "-",
        _grid(layer.grid),
        f"{layer.kurtosis:.2f}",
        layer.best,
        f"{best.ks:.4f}",
        ", ".join(parameters),
        "-" if gain is None else f"{gain:.4f}",
        _tail(layer.tail),
    )


def _grid(grid):
    """Where weights cannot be, in a word."""
    if not grid:
        return "-"
    if grid.kind == "step":
        return f"step {grid.step:.3g}"
    return f"{grid.sizes} sizes" if grid.kind == "sizes" else grid.kind


def _error(value):
    return f" ({value:.1g})" if math.isfinite(value) else ""


def _tail(tail):
    if not tail:
        return "-"
    text = f"{tail.alpha:.2f} ({tail.standard_error:.2f}) beyond {tail.fraction:.2%}"
    return text + (f", p {tail.p:.2f}" if tail.bootstraps else "")


def table(found: Findings) -> str:
    """The layers as a table for a terminal, standard errors in brackets."""
    left = [i for i in range(len(_HEADER)) if i not in _NUMBERS]
    lines = align([_HEADER, *_rows(found)], left)
    lines.insert(1, "-" * max(map(len, lines)))
    lines += [printable(f"skipped {path}: {reason}") for path, reason in found.skipped]
    return "\n".join([*lines, *_ambiguous(found), *_left_out(found)])


def _ambiguous(found) -> list[str]:
    """Asks for the layouts that were not found."""
    layers = [layer for layer in found.layers if _axes(layer) == "?"]
    if not layers:
        return []
    names = ", ".join(
        f"{printable(layer.path)} {list(layer.shape)}" for layer in layers[:_MAX_NAMES]
    )
    more = ", ..." if len(layers) > _MAX_NAMES else ""
    return [
        f"axes unknown of {_count(len(layers), 'layer')}, without fan in and scales: {names}{more}",
        "  --layout=oihw,io says them, a letter an axis: i in, o out, h w d positions, s stacked",
    ]


def _left_out(found) -> list[str]:
    """How many tensors are no layers, with the names of the first for each reason."""
    if not found.no_weights:
        return []
    names: dict[str, list[str]] = {}
    for path, reason in found.no_weights:
        names.setdefault(reason, []).append(path)
    number, layers = len(found.no_weights), len(found.layers) + len(found.skipped)
    lines = [f"left out: {number} of {number + layers} tensors"]
    for reason, paths in list(names.items())[:_MAX_REASONS]:
        shown = [printable(path) for path in paths[:_MAX_NAMES]]
        shown += ["..."] if len(paths) > _MAX_NAMES else []
        lines.append(f"  {len(paths)}: {printable(reason)}")
        if reason != NOT_ASKED:
            lines[-1] += f" ({', '.join(shown)})"
    if len(names) > _MAX_REASONS:
        lines.append(f"  and more, for {len(names) - _MAX_REASONS} other reasons")
    return lines


_STYLE = """
img { display: block; max-width: 100%; background: #fff; }
@media (max-width: 700px) { img { max-width: 250%; } }
"""

_PICTURES = (
    (
        "How many weights lie beyond |w|",
        pictures.plot_ccdfs,
        "A power law would be a straight line over decades. Zeros are left out; w > 0 and w < 0 are"
        " the two sides. KS: the distance of the best law's distribution from the weights'.",
    ),
    (
        "How much worse than the best law",
        pictures.plot_aic,
        "AIC differences, divided by the number of weights.",
    ),
    (
        "Exponents by depth, beside a control",
        pictures.plot_exponents,
        "Left: maximum likelihood beyond the xmin of least distance. Right: least squares on 100"
        " bins, for the weights and for as many Gaussian samples.",
    ),
    (
        "Exponent against cut-off",
        pictures.plot_cutoffs,
        "One line a layer, from the first (dark) to the last (bright).",
    ),
    (
        "Scales of kernel positions",
        pictures.plot_radial,
        "Root mean square weight of each position over that of the kernel.",
    ),
    (
        "Kurtosis before and after removing scales",
        pictures.plot_kurtosis,
        "What is left after division is not a mixture of scales. Dividing small channels by their"
        " own scale lowers the kurtosis of normal weights as well.",
    ),
)


def html_page(found: Findings) -> str:
    """A page without external parts: the answer, the pictures, the table."""
    source = found.source
    title = f"Weights of {pathlib.PurePath(source.path).name}"
    first, *more = verdict(found)
    parts = [f"<div class='answer'><p class='first'>{escape(first)}</p>"]
    parts += [*(f"<p>{escape(sentence)}</p>" for sentence in more), "</div>"]
    for heading, draw, caption in _PICTURES:
        try:
            figure = draw(found)
            image = None if figure is None else _png(figure)
        except Exception as error:  # one picture must not cost the page
            parts.append(f"<h2>{heading}</h2><p>Not drawn: {escape(repr(error))}</p>")
            continue
        if image is not None:
            parts.append(
                f"<h2>{heading}</h2><figure><div class='wide'><img alt='{heading}'"
                f" src='data:image/png;base64,{image}'></div>"
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
    parts.append("<h2>Layers</h2><div class='wide'><table>")
    for kind, row in (("th", _HEADER), *(("td", row) for row in _rows(found))):
        cells = (
            f"<{kind}{' class=number' if i in _NUMBERS else ''}>{escape(cell)}</{kind}>"
            for i, cell in enumerate(row)
        )
        parts.append(f"<tr>{''.join(cells)}</tr>")
    parts.append("</table></div>")
    parts += [f"<p>{escape(line)}</p>" for line in _ambiguous(found)]
    for heading, entries in (("Skipped", found.skipped), ("Left out", found.no_weights)):
        if entries:
            items = (f"<li>{escape(printable(f'{path}: {why}'))}</li>" for path, why in entries)
            summary = f"<summary>{heading} ({len(entries)})</summary>"
            parts.append(f"<details>{summary}<ul>{''.join(items)}</ul></details>")
    about = {"source": f"{source.path} ({source.format})", **found.environment}
    return page(title, _STYLE, parts, about)


def _png(figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110, format="png")
    return base64.b64encode(stream.getvalue()).decode()
