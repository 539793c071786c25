# Runs as root of a new user namespace, which is nobody outside of it. Builds a root of its own:
# the system's programs read-only, an empty /tmp of bounded size, nothing else; then gives up
# every capability. Arguments: file name, command, and the limits.
file=$1 command=$2 cpu_s=$3 memory_kb=$4 file_blocks=$5 processes=$6 disk_bytes=$7

programs=$PATH
PATH=$PATH:/usr/sbin:/sbin
new=/tmp
mount -t tmpfs -o size=1m,mode=755,nosuid,nodev none "$new"
cd "$new"
mkdir etc dev proc tmp old
for name in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then
        ln -s "$(readlink "/$name")" "$name"
    elif [ -d "/$name" ]; then
        mkdir "$name"
        mount --rbind "/$name" "$name"
        mount -o remount,bind,ro,nosuid,nodev "$name"
    fi
done
for name in alternatives ld.so.cache perl php racket localtime; do
    if [ -d "/etc/$name" ]; then
        mkdir "etc/$name"
    elif [ -f "/etc/$name" ]; then
        : > "etc/$name"
    else
        continue
    fi
    mount --bind "/etc/$name" "etc/$name"
    mount -o remount,bind,ro,nosuid,nodev "etc/$name"
done
for name in null zero full random urandom; do
    : > "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
ln -s /proc/self/fd dev/fd
# Containers that hide parts of /proc forbid a new one: programs then do without.
mount -t proc -o nosuid,nodev,noexec none proc 2> /dev/null || true
mount -t tmpfs -o "size=$disk_bytes,nr_inodes=4096,mode=700,nosuid,nodev" none tmp
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,bind,ro,nosuid,nodev none /
cd /tmp
cat > "$file"

# This shell stays: as the first process of its namespace it takes all others along when it ends.
set +e
(
    ulimit -c 0
    ulimit -n 256
    PATH=$programs
    exec prlimit --nproc="$processes" --data="$((memory_kb * 1024))" --cpu="$cpu_s" \
        --fsize="$((file_blocks * 512))" \
        setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all \
        --securebits=+noroot,+noroot_locked,+no_setuid_fixup,+no_setuid_fixup_locked \
        /bin/sh -c "$command" < /dev/null
)
exit $?
