#!/bin/sh
# Makes the Docker image of tests and demo from Debian's busybox-static, as no registry is needed for that.
# usage: image.sh [NAME:TAG]     prints the name; an image that is there already is used
set -eu

image=${1:-pipewright-test:1}
if ! docker image inspect "$image" >/dev/null 2>&1; then
  busybox=/bin/busybox
  # The package's name in other places is busybox too, but that one needs libraries the image has not.
  if ldd "$busybox" >/dev/null 2>&1; then
    echo "image: $busybox is not static: install busybox-static" >&2
    exit 1
  fi
  tree=$(mktemp -d)
  trap 'rm -rf "$tree"' EXIT
  mkdir -p "$tree/bin" "$tree/sbin" "$tree/usr/bin" "$tree/usr/sbin" "$tree/etc" "$tree/tmp" "$tree/root" "$tree/var/run"
  chmod 755 "$tree"
  cp "$busybox" "$tree/bin/busybox"
  for applet in $("$busybox" --list-full); do
    if [ "$applet" = bin/busybox ]; then continue; fi
    mkdir -p "$tree/$(dirname "$applet")"
    ln -sf /bin/busybox "$tree/$applet"
  done
  # Ends at once on `docker stop`, which sleep as process 1 would not.
  tar -C "$tree" -c . | docker import --change 'CMD ["/bin/sh", "-c", "trap exit TERM; sleep 2147483647 & wait"]' - \
    "$image" >/dev/null
fi
echo "$image"
