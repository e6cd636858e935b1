# Answers every request on port 8080, also those of the hooks that microvm-ctl turns on, and prints them.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 16, ReuseAddr => 1) or die "cannot listen: $@\n";
while (my $client = $listener->accept) {
    my $request = <$client> // next;
    my $length = 0;
    while (defined(my $line = <$client>)) {
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        last if $line =~ /^\r?\n$/;
    }
    read $client, my ($body), $length;
    my ($method, $path) = split ' ', $request;
    print "$method $path\n";
    my $answer = "{\"method\": \"$method\", \"path\": \"$path\", \"bytes\": $length}";
    printf $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
        length $answer, $answer;
}
