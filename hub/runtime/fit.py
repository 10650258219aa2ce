"""Whether an adapter's tensors and a base's modules are one whole: what `lorahub check` decides, asked of the model."""

from __future__ import annotations

from hub.adapter.content import AdapterContent, summarize
from hub.base.spec import BaseSpec
from hub.errors import Incompatible, Unsupported
from hub.fit.shapes import Misfit, find_misfits, find_untrained


def check_fit(content: AdapterContent, base: BaseSpec) -> None:
    """Raise Incompatible, which lists modules (the first few, then a count), unless every tensor has its place.

    Missing is a module that the config targets and the base has, without weights in the file.
    Raises Unsupported for a kind of module that isn't computed.
    """
    misfits = find_misfits(content, base)
    unexpected = sorted({misfit.module for misfit in misfits if misfit.code == "modules"})
    missing = sorted(find_untrained(content, base))
    others = [misfit for misfit in misfits if misfit.code != "modules"]
    if not misfits and not missing:
        return
    lines = ["The adapter does not fit this base."]
    if unexpected:
        lines.append(f"Unexpected, {len(unexpected)} of its modules are not here: {summarize(unexpected)}.")
    if missing:
        lines.append(f"Missing, {len(missing)} modules that it targets have no weights: {summarize(missing)}.")
    if others:
        lines.append(f"Other than here: {summarize(list(dict.fromkeys(map(_described, others))))}.")
    if any(misfit.code == "head" for misfit in misfits):
        lines.append(
            "It stores its task's head whole, and this base is without one: load the base with it, e.g. "
            "hub.load(AutoModelForSequenceClassification.from_pretrained(base, num_labels=…), adapter)."
        )
    is_kind_alone = all(misfit.code == "unsupported" for misfit in misfits) and not missing
    lines.append(
        "Use PEFT: PeftModel.from_pretrained(base, folder)."
        if is_kind_alone
        else "Load the base that it was trained on; `lorahub check` compares the two."
    )
    raise (Unsupported if is_kind_alone else Incompatible)(
        "\n".join(lines), unexpected=unexpected[:20], missing=missing[:20]
    )


def _described(misfit: Misfit) -> str:
    return f"{misfit.module} ({misfit.detail})" if misfit.detail else misfit.module
