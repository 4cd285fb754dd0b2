# %% [markdown]
# # Reading draws with ArviZ
#
# Sample files open with ArviZ and xarray where neither gibbsformer nor JAX is installed, so that a colleague can
# check convergence and plot order parameters after `pip install arviz h5netcdf matplotlib`. In a checkout, `python
# tutorials/read_with_arviz.py run.h5` reads any sample file and writes read_with_arviz.png to the current directory;
# without a name it reads that of [the tutorial before](own_sequences.md).
#
# [Sample files](../files.md) lists all groups and variables; [ArviZ](../arviz.md) has what a run adds where
# gibbsformer is installed.

# %%
import json
import sys

import arviz
import matplotlib.pyplot as plt
import xarray

given = [name for name in sys.argv[1:] if name.endswith(".h5")]
path = given[0] if given else "own_sequences.h5"

# %% [markdown]
# The file is a netCDF file in ArviZ's layout. It has one group per kind of variable. The leading axes are chain and
# draw.

# %%
data = arviz.from_netcdf(path)
posterior = data.posterior
print(posterior)

# %% [markdown]
# The settings of the run are stored in the file: kernel, network, temperature, key, versions, date.

# %%
with xarray.open_datatree(path, engine="h5netcdf") as tree:
    settings = json.loads(tree.attrs["settings"])
print({name: settings[name] for name in ("kernel", "network", "temperature", "chains", "draws")})

# %% [markdown]
# Check the convergence of the order parameters. The rank-normalised split R-hat should be near 1, and the effective
# sample size (ESS) in the hundreds.

# %%
order_parameters = posterior[[name for name in posterior if name.startswith("U_")]]
rhat, ess = arviz.rhat(order_parameters), arviz.ess(order_parameters)
for name in order_parameters:
    print(f"{name}: largest R-hat {float(rhat[name].max()):.3f}, minimum ESS {float(ess[name].min()):.0f}")

# %% [markdown]
# Paths are labelled by name, so entries of U_1 can be selected by name.

# %%
U_1 = posterior["U_1"]  # [chain, draw, path_1, path_1_prime]
first = U_1["path_1"].values[0]
chosen = U_1.sel(path_1=first, path_1_prime=first)
print(f"U_1[{first}, {first}]: mean {float(chosen.mean()):.2f}, standard deviation {float(chosen.std()):.2f}")

# %% [markdown]
# Plot the trace with one line per chain, and the posterior mean of U_1 over pairs of paths.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
chosen.plot.line(x="draw", hue="chain", ax=left, linewidth=0.6)
left.set(title=f"$U_1$[{first}, {first}]", ylabel="")
mean = U_1.mean(("chain", "draw"))
largest = float(abs(mean).max())
image = right.imshow(mean, cmap="RdBu_r", vmin=-largest, vmax=largest)
right.set_xticks(range(len(mean)), mean["path_1_prime"].values, rotation=40, ha="right", rotation_mode="anchor")
right.set_yticks(range(len(mean)), mean["path_1"].values)
figure.colorbar(image, ax=right, label="order parameter $U_1$, posterior mean")
figure.savefig("read_with_arviz.png", dpi=150)
