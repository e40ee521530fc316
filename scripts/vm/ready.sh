# ready: waits until Open vSwitch and Docker Engine answer in a machine of test/vm, and gives Docker Engine the tests' image. A
# client that asks before there is a socket costs more than waiting.
ovs=/usr/share/openvswitch/scripts/ovs-ctl
ready() {
  if [ -x $ovs ]; then
    until [ -S /run/openvswitch/db.sock ] && ls /run/openvswitch/ovs-vswitchd.*.ctl; do sleep 0.5; done
    until ovs-appctl -t ovs-vswitchd version; do sleep 0.5; done
  fi
  if command -v dockerd; then
    until [ -S /run/docker.sock ] && docker version; do sleep 0.5; done
    if [ -e /run/share/image.tar ] && ! [ -e /run/lasting/loaded ]; then
      docker load -i /run/share/image.tar
      touch /run/lasting/loaded
    fi
  fi
} >/dev/null 2>&1
