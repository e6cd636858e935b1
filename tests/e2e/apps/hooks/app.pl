# Hooks on port 9000, everything else on port 8080; each connection in a process of its own, so that nothing but the
# gate keeps a request back while a hook runs. What happens is printed, and kept in /log, which GET /log answers with.
#
# How a hook answers is in the payload of the run hook: words such as `suspend=500`. A number is a status, `wait` takes
# two seconds, `slow` longer than any timeout, `break` closes the connection, `exit` ends the app with code 7, `deaf`
# answers well and closes the port of the hooks.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

$| = 1;
$SIG{CHLD} = 'IGNORE';
# The first process of a container has no default actions.
$SIG{TERM} = sub { exit 7 };
my $parent = $$;
my ($hooks, $app) = map {
    IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $_, Listen => 64, ReuseAddr => 1) or die "$_: $@\n"
} 9000, 8080;
my $listeners = IO::Select->new($hooks, $app);
$SIG{USR1} = sub { $listeners->remove($hooks); close $hooks };
note("started");
while (1) {
    for my $listener ($listeners->can_read) {
        my $is_app = $listener == $app;
        my $client = $listener->accept or next;
        next if fork // die "fork: $!\n";
        $SIG{TERM} = 'DEFAULT';
        # Or the port would live on in here when the parent closes it.
        close $_ for $hooks, $app;
        $is_app ? serve($client) : hook($client);
        exit 0;
    }
}

sub note {
    open my $log, '>>', '/log' or die "/log: $!\n";
    syswrite $log, "@_\n";
    print "@_\n";
}

sub request {
    my ($client) = @_;
    my ($head, $length, $body) = ('', 0, '');
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?\n$/;
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        $head .= $line;
    }
    read $client, $body, $length if $length;
    return ($head, $body);
}

sub answer {
    my ($client, $status, $body) = @_;
    printf $client "HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", $status, length $body, $body;
}

sub hook {
    my ($client) = @_;
    my ($head, $body) = request($client);
    my ($name) = $head =~ m{^POST /aws/lambda-microvms/runtime/v1/(\w+) HTTP/1.1\r\n} or return answer($client, 404, '');
    my ($host) = $head =~ /^host: (.*?)\r$/mi;
    my $type = $head =~ /^content-type: (.*?)\r$/mi ? $1 : '-';
    my $from = $client->peerhost;
    note("begin $name host=$host type=$type agent=" . ($head =~ /^user-agent:/mi ? 1 : 0) . " from=$from")
        unless $name eq 'ready';
    if ($name eq 'run') {
        open my $file, '>', '/body' or die "/body: $!\n";
        print $file $body;
        close $file;
    } else {
        note("body of $name: $body") if length $body;
    }
    my $how = '200';
    if (open my $file, '<', '/body') {
        $how = $1 if <$file> =~ /\b$name=(\w+)/;
    }
    if ($how eq 'wait') { sleep 2; $how = 200 }
    sleep 3600 if $how eq 'slow';
    if ($how eq 'exit') { kill TERM => $parent; sleep 3600 }
    if ($how eq 'deaf') { kill USR1 => $parent; select undef, undef, undef, 0.3; $how = 200 }
    note("end $name") unless $name eq 'ready';
    answer($client, $how, '') unless $how eq 'break';
}

sub serve {
    my ($client) = @_;
    my ($head) = request($client);
    my ($path) = $head =~ m{^\w+ (\S+)};
    note("request $path") unless $path =~ m{^/(log|body)$};
    my $body = '';
    if ($path =~ m{^/(log|body)$} and open my $file, '<', $path) {
        local $/;
        $body = <$file>;
    }
    answer($client, 200, $body);
}
