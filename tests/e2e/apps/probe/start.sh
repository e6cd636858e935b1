# The app becomes the container's first process; the probe is its child.
echo "started with: $1"
perl probe.pl &
exec perl app.pl
