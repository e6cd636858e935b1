# An app that believes in its endpoint's name: absolute redirects, cookies with a domain, a WebSocket that echoes. Any other
# path is answered with the request as it arrived. Port 8090, each connection in a process of its own.
use strict;
use warnings;
use IO::Socket::INET;

$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8090, Listen => 64, ReuseAddr => 1)
    or die "cannot listen: $@\n";
while (1) {
    my $client = $listener->accept or next;
    next if fork;
    while (serve($client)) { }
    exit 0;
}

sub serve {
    my ($client) = @_;
    my $request = <$client> // return 0;
    my %fields;
    my $head = $request;
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?\n$/;
        $head .= $line;
        $fields{ lc $1 } = $2 if $line =~ /^([^:]+):\s*(.*?)\r?\n$/;
    }
    my ($path) = $request =~ m{^\w+ (\S+)};
    read $client, my $body, $fields{'content-length'} if $fields{'content-length'};
    my ($name) = $fields{host} =~ /^([^:]+)/;
    return echo($client, $fields{'sec-websocket-key'}) if $path eq '/echo';
    my ($status, $more) = ('200 OK', '');
    if ($path eq '/redirect') {
        ($status, $more) = ('302 Found', "Location: https://$fields{host}/landed?a=b\r\n");
    } elsif ($path eq '/cookies') {
        $more = "Set-Cookie: session=1; Domain=$name; Path=/; Secure\r\nSet-Cookie: other=2; Path=/\r\n"
            . "Strict-Transport-Security: max-age=1000\r\n";
    }
    $head .= "\r\n" . ($body // '');
    printf $client "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", $status, $more, length $head, $head;
    return 1;
}

# RFC 6455, for messages shorter than 126 bytes.
sub echo {
    my ($client, $key) = @_;
    chomp(my $hex = `printf %s ${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11 | sha1sum | cut -c1-40`);
    my $accept = pack 'u', pack 'H*', $hex;
    $accept = substr($accept, 1) =~ tr{` -_\n}{AA-Za-z0-9+/}dr;
    $accept = substr($accept, 0, 27) . '=';
    print $client "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Sec-WebSocket-Accept: $accept\r\n\r\n";
    while (read $client, my $header, 6) {
        my ($first, $length, @mask) = unpack 'C6', $header;
        read $client, my $payload, $length & 127;
        my @bytes = unpack 'C*', $payload;
        $bytes[$_] ^= $mask[$_ % 4] for 0 .. $#bytes;
        print $client pack 'C*', $first, scalar @bytes, @bytes;
        last if ($first & 15) == 8;
    }
    return 0;
}
