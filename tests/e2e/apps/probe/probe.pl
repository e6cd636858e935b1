# Runs shell commands for the tests: POST the command, get its output and, in the header X-Status, its exit status.
# POST to /record adds the body to /var/tmp/record, as a line, and answers with it; then the connection stays open.
# `perl probe.pl connect HOST:PORT…` says of each whether a TCP connection can be made, and if not, why.
use strict;
use warnings;
use IO::Socket::INET;

connect_to_all(@ARGV[1 .. $#ARGV]) if @ARGV;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8081, Listen => 64, ReuseAddr => 1)
    or die "cannot listen: $@\n";
while (1) {
    my $client = $listener->accept or next;
    next if fork // die "fork: $!\n";
    $SIG{CHLD} = 'DEFAULT';
    serve($client);
    exit 0;
}

sub serve {
    my ($client) = @_;
    local $ENV{PEER} = $client->peerhost;
    while (defined(my $request = <$client>)) {
        my $length = 0;
        while (defined(my $line = <$client>)) {
            $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
            last if $line =~ /^\r?\n$/;
        }
        read $client, my ($body), $length;
        return run_command($client, $body) if $request !~ m{^POST /record };
        record($client, $body);
    }
}

sub run_command {
    my ($client, $command) = @_;
    open my $shell, '-|', '/bin/sh', '-c', "exec 2>&1\n$command" or die "sh: $!\n";
    my $output = do { local $/; <$shell> } // '';
    close $shell;
    my $status = $? >> 8;
    printf $client "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Status: %d\r\nConnection: close\r\n\r\n%s",
        length $output, $status, $output;
}

# Whoever writes at the same time writes another line: it is appended at once.
sub record {
    my ($client, $body) = @_;
    open my $record, '>>', '/var/tmp/record' or die "/var/tmp/record: $!\n";
    syswrite $record, "$body\n";
    close $record;
    $client->autoflush(0);
    printf $client "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length $body, $body;
    $client->flush;
}

# All at the same time. A banner, if the other side sends one within a second, proves who answered.
sub connect_to_all {
    my @places = @_;
    $| = 1;
    for my $place (@places) {
        next if fork // die "fork: $!\n";
        my $socket = IO::Socket::INET->new(PeerAddr => $place, Timeout => 3);
        if (!$socket) {
            print "$place closed: $!\n";
            exit 0;
        }
        $SIG{ALRM} = sub { print "$place open\n"; exit 0 };
        alarm 1;
        my $banner = <$socket> // '';
        print "$place open: ", $banner =~ s/\s+$//r, "\n";
        exit 0;
    }
    1 while wait != -1;
    exit 0;
}
