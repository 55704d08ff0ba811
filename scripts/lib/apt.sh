# A second apt beside the machine's own: packages of another suite or architecture, without being root and
# without touching this machine's package state. Sourced after common.sh.
#
# The host's apt does the work, under a configuration whose lists, state and cache lie in a folder of ours and
# whose architecture is the wanted one: so the mirror, proxies and certificates are the ones this machine
# already uses, and every package is checked against Debian's archive keys. Packages are unpacked, never
# installed: none of their scripts runs.
#
# Every function works on the folder $apt and logs to $log.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# apt_config MIRROR SUITE ARCHITECTURE: writes $apt/apt.conf. It is read last, after the machine's own, whose
# hooks and package state it replaces; what the machine says about proxies and the like stays in force. A mirror
# may be a snapshot of the archive, whose lists have expired; they are signed all the same.
apt_config() {
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state"
    : >"$apt/status"
    echo "deb [signed-by=$keyring] $1 $2 main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
#clear APT::Default-Release;
APT::Architecture "$3";
APT::Architectures { "$3"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::Check-Valid-Until "false";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt/state";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
END
}

# The archives this machine takes its own packages from, likeliest first. apt itself reads sources.list and
# the deb822 files; a suite with a dash is an update or security archive, which has no complete suites.
apt_mirrors() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v codename="$codename" '
            $2 != "main" || $1 ~ /-/ { next }
            { print ($1 == codename ? 0 : 1) ($3 ~ /\/debian\/*$/ ? 0 : 1), $3 }' |
        sort -s -k1,1 | awk '!seen[$2]++ { print $2 }'
}

# apt_lists SUITE ARCHITECTURE PACKAGE: downloads the lists from the first archive that has PACKAGE; fails if none has
apt_lists() {
    local mirror
    if [ ! -e "$keyring" ]; then
        quietly "$log" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y debian-archive-keyring
    fi
    for mirror in $(apt_mirrors); do
        apt_config "$mirror" "$1" "$2"
        if apt-get -c "$apt/apt.conf" update >>"$log" 2>&1 </dev/null && [ -n "$(apt_field "$3" Package)" ]; then
            return
        fi
    done
    return 1
}

# apt_field PACKAGE NAME: a field of the newest version of PACKAGE
apt_field() {
    apt-cache -c "$apt/apt.conf" --no-all-versions show "$1" 2>/dev/null | sed -n "s/^$2: //p" | head -n 1
}
