#!/bin/sh
# Makes the environment of this checkout, or leaves it alone when it is whole and up to date.
#
#   sh launch/environment.sh FOLDER EXTRAS VERSION...      for example: .venv test,torch 3.11 3.12
#
# VERSION: the versions of Python that will do, the preferred one first. PYTHON in the environment names the only
# command to be tried. An environment is whole when its stamp is there, which is written last: what an interrupted
# run has left behind is made anew.
set -eu
cd "$(dirname "$0")/.."
folder=$1
wanted=$2
shift 2
stamp=$folder/.gasmcast

fail() {
  echo "$*" >&2
  exit 2
}

# The interpreter behind command $1, if it runs, is Python $2 and can make environments. A command that exists may
# still fail, as pyenv's shims of versions that are not selected do; only running it tells.
probe() {
  "$1" -c '
import ensurepip, os, sys, venv
if "%d.%d" % sys.version_info[:2] != sys.argv[1]:
  sys.exit(1)
print(os.path.realpath(sys.executable))' "$2" 2>/dev/null
}

find_python() {
  for version; do
    if [ -n "${PYTHON:-}" ]; then
      probe "$PYTHON" "$version" && return
      continue
    fi
    for command in "python$version" python3 python; do
      probe "$command" "$version" && return
    done
    command -v pyenv >/dev/null || continue
    for installed in $(pyenv versions --bare); do
      case $installed in
        "$version".*) probe "$(PYENV_VERSION=$installed pyenv which "python$version" 2>/dev/null)" "$version" && return ;;
      esac
    done
  done
  return 1
}

interpreter='' checkout='' inputs='' extras=''
if [ -f "$stamp" ] && "$folder/bin/python" -c '' 2>/dev/null; then
  { read -r interpreter && read -r checkout && read -r inputs && read -r extras; } <"$stamp" || checkout=''
fi

if [ "$checkout" != "$PWD" ] || [ -n "${PYTHON:-}" ]; then
  found=$(find_python "$@") || fail "No Python $(echo "$*" | sed 's/ / or /g') with its venv module was found${PYTHON:+ behind PYTHON=$PYTHON}." \
    "Install one (on Debian or Ubuntu: python$1 and python$1-venv) or name it: make ... PYTHON=/path/to/python$1"
  if [ "$checkout" != "$PWD" ] || [ "$found" != "$interpreter" ]; then
    if [ -n "$(ls -A "$folder" 2>/dev/null)" ] && [ ! -f "$folder/pyvenv.cfg" ]; then
      fail "$folder holds something that is not a Python environment; remove it or name another folder by VENV=."
    fi
    echo "Making $folder with $found"
    rm -f "$stamp"
    "$found" -m venv --clear "$folder"
    interpreter=$found inputs='' extras=''
  fi
fi

constraints=constraints/py$("$folder/bin/python" -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
current=$(cat setup.py pyproject.toml "$constraints" | cksum)
for extra in $(echo "$wanted" | tr , ' '); do
  case ",$extras," in
    *",$extra,"*) ;;
    *) extras=${extras:+$extras,}$extra inputs='' ;;
  esac
done
[ "$inputs" = "$current" ] && exit

echo "Installing gasmcast${extras:+[$extras]} with $constraints into $folder; the first time takes a few minutes"
rm -f "$stamp"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$constraints" --editable ".${extras:+[$extras]}"
printf '%s\n' "$interpreter" "$PWD" "$current" "$extras" >"$stamp"
