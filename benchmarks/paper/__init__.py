"""The paper's results with this package: data sets, training, sampling, evaluation, tables and figures.

K.-H. Lee, G. J. Yun, "Microstructure reconstruction using diffusion-based generative models" (2023). This folder holds
the order of things only; everything that is computed is the package's.

```
plan.py        which materials, how many, which settings, where files lie
make.py        data sets, models, samples
measure.py     generated against held-out originals, and the study of sampling steps
published.py   the paper's figures
tables.py      metrics -> tables 2, 3, 4 in Markdown
figures.py     metrics and structures -> figures 2 to 10
ablation.py    one change of the recipe at a time
record.py      seconds and hardware of each step
run.py         the command
```
"""
