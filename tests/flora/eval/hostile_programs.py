"""Programs that mean harm, in the shell, Perl and Python that every Linux has."""

LOOP = "while :; do :; done"
FORK_BOMB = 'perl -e "fork while 1"'
SILENT_FORK_BOMB = 'perl -e "fork while 1" & sleep 60'
EATER = "perl -e '$x = qq(x) x (10 << 30); print length $x'"
PATIENT_EATER = (
    "perl -e 'for (1..64) { fork or do { $x = qq(x) x ((192 + $_) << 20); sleep 60 } } sleep 60'"
)
TALKER = "yes"
WRITER = "echo mine > /usr/mine || echo mine > /etc/mine || echo mine > $OUTSIDE"
DISK_FILLER = "head -c 1000000000 /dev/zero > big; test $(wc -c < big) -ge 1000000000"
FILE_MAKER = "perl -e 'for (1..100000) { open(F, qq(>f$_)) or die; close F }'"
CALLER = (
    "perl -MIO::Socket::INET -e "
    "'IO::Socket::INET->new(PeerAddr => q(127.0.0.1), PeerPort => $ENV{PORT} || {port}) or exit 7'"
)
SPY = "env; cat /proc/*/environ; cat /etc/shadow; ls /"
MOUNTER = "mount -t tmpfs none /tmp || unshare --user --map-root-user true"
ORPHAN = "(setsid sleep 61 > /dev/null 2>&1 &) ; exit 0"
