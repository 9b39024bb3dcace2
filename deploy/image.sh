#!/bin/sh
# What an image is made of, for the Dockerfile and for `make image-steps`, in an environment of its own:
#   image.sh libraries exporter|webhook VENV   from the lock with hashes
#   image.sh package exporter|webhook VENV     our package of this folder; then what no process needs is taken out
#   image.sh check exporter|webhook VENV       does every module import, and does the program start, with that alone?
set -eu
step=$1 image=$2 venv=$3

install() {
    "$venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore "$@"
}

libraries() {
    # setuptools, which builds our wheel and libraries that ship none, is held by its hashes too, and leaves at the end.
    sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock >build.lock
    python3 -m venv "$venv"
    install --require-hashes -r build.lock
    install --require-hashes --no-deps --no-build-isolation -r "requirements-$image-image.lock"
}

package() {
    install --no-deps --no-build-isolation .
    "$venv/bin/pip" check
    "$venv/bin/pip" uninstall --yes --quiet setuptools pip
    # the other package's program would lead nowhere
    for program in "$venv"/bin/sentinel-*; do
        [ "$program" = "$venv/bin/sentinel-$image" ] || rm "$program"
    done
    cd "$venv"/lib/python3.*/site-packages
    find . -type d \( -name tests -o -name include \) -prune -exec rm -r {} +
    "trim_$image"
}

# Arrow: Flight and its own S3 client, which nothing of ours opens, its sources, and second copies of its libraries.
# botocore: the descriptions of 400 services beside S3 and those that give it credentials.
trim_exporter() {
    rm -rf pyarrow/src pyarrow/*flight* pyarrow/*_s3* pyarrow/*_cpp_tests* pyarrow/libarrow_python*.so pyarrow/*.so.*.*.*
    find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts ! -name signin \
        -exec rm -r {} +
}

trim_webhook() {
    rm -rf matplotlib/mpl-data/sample_data
}

# From a folder without a checkout, whose packages would be found first.
check() {
    config=$PWD/demo/exporter-config.yaml
    cd "$(mktemp -d)"
    "$venv/bin/python" -W ignore -c '
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
names = [name for name in names if ".migrations." not in name]  # Alembic runs these
for name in names:
    importlib.import_module(name)
print(f"{package.__name__}: {len(names)} modules import")
' "$image"
    "check_$image"
    rm -r "$PWD"
}

check_exporter() {
    "$venv/bin/sentinel-exporter" --version
    "$venv/bin/sentinel-exporter" check "$config"
    "$venv/bin/python" -c '
import boto3, duckdb, polars
polars.from_arrow(duckdb.sql("SELECT 42 AS answer").to_arrow_table())
session = boto3.session.Session("key", "secret", region_name="eu-west-1")
session.client("s3"), session.client("sts"), session.client("sso"), session.client("sso-oidc")'
}

check_webhook() {
    "$venv/bin/sentinel-webhook" --help >/dev/null
    SENTINEL_DATABASE_URL="sqlite:///$PWD/sentinel.db" "$venv/bin/sentinel-webhook" migrate
    "$venv/bin/python" -c '
from matplotlib.figure import Figure
figure = Figure()
figure.subplots().plot([1, 2])
figure.savefig("chart.png")'
}

"$step"
