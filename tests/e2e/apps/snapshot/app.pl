# Before its snapshot this app makes a token that is in its memory only, and opens two connections: one to the host that the
# environment names, one to itself. GET /connections says of each whether it lives and makes the outer one anew, GET /clocks
# gives the three clocks in seconds, GET /token the token.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
$SIG{PIPE} = 'IGNORE';
$SIG{CHLD} = 'IGNORE';
exec 'perl', '/srv/probe.pl' unless fork // die "fork: $!\n";

open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
read $random, my ($bytes), 36;
my $token = 'ghp_' . join '', map { (0 .. 9, 'A' .. 'Z', 'a' .. 'z')[ord($_) % 62] } split //, $bytes;
undef $bytes;

my $echo = listen_on(8082);
my $inner = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 8082) or die "loopback: $@\n";
my $echoing = $echo->accept;
my $outer = connect_outside();
sysread $outer, my ($greeting), 100;
my $listener = listen_on(8080);
print "ready\n";

while (my $client = $listener->accept) {
    my (undef, $path) = split ' ', <$client> // next;
    1 while defined($_ = <$client>) && !/^\r?$/;
    my $body = $path eq '/connections' ? connections() : $path eq '/clocks' ? clocks() : $path eq '/token' ? $token : 'hello';
    print $client "HTTP/1.1 200 OK\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n$body";
}

sub listen_on {
    my ($port) = @_;
    return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 9, ReuseAddr => 1) || die "$port: $@\n";
}

sub connect_outside {
    return IO::Socket::INET->new(PeerAddr => $ENV{OUTSIDE}, Timeout => 5) || die "$ENV{OUTSIDE}: $@\n";
}

sub connections {
    my $outer_says = defined sysread($outer, my $byte, 1) ? 'a byte or the end' : 0 + $!;
    $outer = connect_outside();
    my $again = sysread($outer, $byte, 100) ? 'open' : "closed: $!";
    syswrite $inner, 'x';
    my $inner_says = sysread($echoing, $byte, 1) ? 'open' : "closed: $!";
    return "outer=$outer_says inner=$inner_says again=$again";
}

# clock_gettime(2) of CLOCK_REALTIME, CLOCK_MONOTONIC and CLOCK_BOOTTIME; perl-base has no Time::HiRes.
sub clocks {
    return join ' ', map {
        my $time = pack 'q2', 0, 0;
        syscall 228, $_, $time;
        sprintf '%.6f', (unpack 'q', $time) + (unpack 'x8q', $time) / 1e9;
    } 0, 1, 7;
}
