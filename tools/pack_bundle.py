"""Pack a bundle for a host: ``python -m tools.pack_bundle NAME --output dist``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tools.packing import STEPS, Packed, PackError, PackRequest, pack_bundle
from tools.terminal import bar_over_steps, with_several_values

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(cls=with_several_values("--overlay"))
def main(
    bundle: Annotated[
        str, typer.Argument(help="Name of a bundle in bundles/, or its folder.", show_default=False)
    ],
    overlay: Annotated[
        list[str] | None,
        typer.Option(help="Overlays of the bundle, or JSON files, merged in this order.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="State dict of the network. [default: models/model.pt of the bundle]", show_default=False
        ),
    ] = None,
    laterality: Annotated[
        str | None,
        typer.Option(
            help="Whose left the network means: image or patient. [default: as configured]",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="dataset.json of the training, or its folder; for the manifest.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("dist"),
    bundles: Annotated[Path, typer.Option(help="Folder of the bundles.")] = Path("bundles"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")
    ] = False,
    no_proof: Annotated[bool, typer.Option("--no-proof", help="Do not run the archive on its own.")] = False,
) -> None:
    """Write a bundle as a folder and a zip that need nothing of this repository.

    The shared code goes to `scripts/common`, the named overlays are baked into the configurations, and
    `manifest.json` says versions, laterality, training data and the SHA-256 of every file. The zip is the same, byte
    for byte, whenever it is made of the same files. Before anything appears in the output folder, the zip is unpacked
    into an empty one and segments a picture there, with the repository's own code out of reach.

    Weights are loaded into the packed network first: name the overlays that they were trained with.

    **Examples**

        python -m tools.pack_bundle baseline_segmentation

        python -m tools.pack_bundle ssa_segmentation --overlay light qata_cov19 --weights model.pt --dataset data/qata

        python -m tools.pack_bundle ssa_segmentation --overlay my_sizes.json --output /srv/bundles --overwrite
    """
    request = PackRequest(
        bundle=bundle,
        overlays=tuple(overlay or ()),
        weights=weights,
        laterality=laterality,
        dataset=dataset,
        output=output,
        bundles=bundles,
        overwrite=overwrite,
        proof=not no_proof,
    )
    try:
        packed = with_progress(request)
    except (PackError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(
            f"error: {error}", style="red", markup=False, highlight=False
        )
        raise typer.Exit(code=2) from error
    show(packed)


def with_progress(request: PackRequest) -> Packed:
    """Pack while a bar shows the step."""
    with bar_over_steps(STEPS) as on_step:
        return pack_bundle(request, on_step=on_step)


def show(packed: Packed) -> None:
    """Print what was written and what is known of it."""
    from common.checks import file_sha256

    manifest = packed.manifest
    weights, data = manifest["weights"], manifest["training_data"]
    rows = {
        "folder": f"{packed.folder} ({len(manifest['files'])} files)",
        "archive": f"{packed.archive} ({packed.archive.stat().st_size / 2**20:.2f} MiB)",
        "SHA-256": file_sha256(packed.archive),
        "version": f"{manifest['version']} (project {manifest['project_version']}, commit {manifest['commit']})",
        "overlays": ", ".join(manifest["overlays"]) or "none",
        "laterality": str(manifest["laterality"]),
        "training data": "not named (--dataset)" if data is None else data["name"],
        "weights": "none: train it, or give --weights" if weights is None else weights["sha256"],
        "proof": proof_text(packed),
    }
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, value in rows.items():
        console.print(f"{name:<14} {value}")


def proof_text(packed: Packed) -> str:
    """Say in one line what the archive did on its own."""
    proof = packed.proof
    if proof is None:
        return "left out (--no-proof)"
    loaded = "its weights" if proof.weights else "random weights"
    depends = "depends" if proof.text_changes_output else "does not depend"
    return (
        f"{proof.network} ran alone with {loaded}, {proof.seconds_per_case:.2f} s a case; its output {depends} on the "
        "sentence"
    )


if __name__ == "__main__":
    app()
