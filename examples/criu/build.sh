#!/bin/sh
# Builds packages of CRIU 4.2 or later for the Debian or Ubuntu that it runs on, out of the source package of Debian forky, and leaves
# them in a directory. Run it as root, best in a container or a machine that is thrown away: it installs what the build needs.
#
#   build.sh [DIRECTORY]      then, on the machines that are to have CRIU: apt install ./criu_*.deb
#
# DEBIAN_MIRROR is where the source comes from, CRIU_SUITE the release of Debian that has it. make test-criu tries it.
set -eu

directory=$(realpath "${1:-.}")
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=${CRIU_SUITE:-forky}
export DEBIAN_FRONTEND=noninteractive

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

apt-get -qq update
apt-get -qqy install --no-install-recommends build-essential fakeroot dpkg-dev debian-archive-keyring

# The source alone is of that release. Its libraries would not fit this one.
mkdir -p "$work/lists/partial" "$work/source"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$work/sources.list"
cd "$work/source"
of_suite() {
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" \
        -o APT::Sandbox::User=root "$@"
}
of_suite update
of_suite source criu

cd criu-*/
apt-get -qqy build-dep --no-install-recommends .
DEB_BUILD_OPTIONS="nocheck parallel=$(nproc)" dpkg-buildpackage -b -us -uc
cp ../*.deb "$directory/"
