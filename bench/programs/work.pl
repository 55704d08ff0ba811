# What the benchmark's Perl does: regular expressions over lines of text and of a log, hashes, sorting with a
# comparison, string building, subroutines.
use strict;

my (%words, %pairs, %hosts, $last);
open(my $text, '<', $ARGV[0]) or die;
while (<$text>) {
    last if $. > 3500;
    while (/([A-Za-z]+)/g) {
        my $word = lc $1;
        $words{$word}++;
        $pairs{"$last $word"}++ if defined $last;
        $last = $word;
    }
    tr/a-z/n-za-m/;
    $pairs{$1}++ if /(\w+)[,.] (\w+)\s*$/;
}
close $text;
open(my $records, '<', $ARGV[1]) or die;
while (<$records>) {
    last if $. > 14000;
    chomp;
    my @field = split /,/;
    next unless $field[1] =~ /^([a-z])[a-z]*?([aeiou]).*$/;
    $hosts{$1}{$2} += $field[2];
    s/(\d+)-(\d+)-(\d+)/$3.$2.$1/;
    $words{substr($_, -6)}++;
}
close $records;

sub depth {
    my ($n, $list) = @_;
    return 1 if $n < 2;
    push @$list, $n % 7;
    return depth($n - 1, $list) + depth($n - 2, $list);
}

my @top = sort { $words{$b} <=> $words{$a} || $a cmp $b } keys %words;
print join(' ', map { "$_:$words{$_}" } @top[0 .. 19]), "\n";
print scalar(keys %pairs), "\n";
for my $first (sort keys %hosts) {
    print "$first ", join(' ', map { "$_=$hosts{$first}{$_}" } sort keys %{$hosts{$first}}), "\n";
}
my @list;
print depth(20, \@list), ' ', scalar(@list), "\n";
my $line = join('', map { sprintf('%03d', $_ * $_ % 1000) } 1 .. 5000);
my $count = () = $line =~ /(\d)\1\d*?7/g;
print "$count\n";
