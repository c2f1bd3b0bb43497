"""What is allowed in a bundle: names of files, expressions, line budgets, sizes. Data alone."""

from __future__ import annotations

CONFIG_NAMES = ("metadata", "inference", "train", "evaluate")
REQUIRED_FILES = (
    *(f"configs/{name}.json" for name in CONFIG_NAMES),
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "LICENSE",
)
README_HEADINGS = (
    "Paper",
    "What it predicts",
    "Inputs and outputs",
    "Data and licence",
    "Train and infer",
    "Our result beside the paper",
    "Limitations",
    "Differences from the paper",
)

LINE_BUDGETS = {"train.json": 150, "inference.json": 80, "evaluate.json": 40}
EXPRESSION_LENGTH = 80
SHARED_KEYS = ("network_def", "preprocessing", "image_size", "laterality", "width")
# shared by the bundles that have them in either
SWITCHES = ("backbone", "max_tokens", "tokenizer", "labels", "windows", "percentiles", "plane", "depths")

# Regular expressions for what follows the dollar sign, whole.
ALLOWED_EXPRESSIONS = (
    r"@[\w#]+ \+ '[/\w.]*'",  # paths
    r"torch\.device\('cuda' if torch\.cuda\.is_available\(\) else 'cpu'\)",
    r"torch\.device\('cuda:' \+ @local_rank if @backend == 'nccl' else 'cpu'\)",
    r"@network_def\.to\(@device\)",
    r"@(training_)?network\.parameters\(\)",
    r"@(aligned_network|referring_pair|fusion_training)\.to\(@device\)",
    r"@(dsot|contrastive) != 'off'",
    r"@train#unlabelled_cases if @ssl == 'ema' else \[\]",
    r"0 if @ssl == 'ema' else len\(@train#unlabelled_cases\)",
    r"@[\w#]+\.run\(\)",
    r"type\(@network_def\)\.__name__",
    r"list\(@labels\.values\(\)\)",
    r"len\(@labels\)",
    r"@network_def\.set_class_embeddings\(@descriptions\)\.to\(@device\)",
    r"@network\.((feature|prototype)_channels|parameter_groups\(@learning_rate\))",
    r"@(vlcc|proto)_weight \* @(vlcc|proto)",
    r"@(stage_two|train)#adversaries(\.discriminators| if @adv else None)",
    r"(max\(1, )?@(pretrain|warmup|max)_epochs \* len\(@(stage_one#|train#data)loader\)\)?",
    r"import (os|torch\.distributed as dist)",
    r"dist\.is_initialized\(\) or dist\.init_process_group\(backend=@backend\)",
    r"dist\.is_initialized\(\) and dist\.(barrier|destroy_process_group)\(\)",
    r"torch\.cuda\.is_available\(\)",
    r"torch\.manual_seed\(@seed\)",
    r"torch\.cuda\.is_available\(\) and torch\.cuda\.set_device\(@device\)",
    r"'nccl' if torch\.cuda\.is_available\(\) else 'gloo'",
    r"os\.environ\['LOCAL_RANK'\]",
    r"\[@device\] if @backend == 'nccl' else None",
)

LARGEST_FILE = 25 * 2**20  # the model zoo's policy
LARGE_FILE = 2**20  # the limit of its hook for one commit
WEIGHTS = "models/model.pt"
GOLDEN = "models/golden.json"
EXPORTS = (
    "models/model.ts",
    "models/model.pt2",
)  # formats that hold code by design, read by their own runtimes
