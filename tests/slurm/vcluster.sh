#!/bin/bash
# vcluster.sh [-n NODES] [-c CPUS] [-g GPUS] [-s LINE]... COMMAND... - runs COMMAND on the login node of a
# SLURM cluster that exists for that long only, and ends with its exit status. Needs root.
#
# The cluster lives in namespaces of its own. Process 1 in there is this script, so however it
# ends, the kernel ends the daemons and all jobs and takes down the network; configuration,
# state and temporary files are in memory and go with it. Every node has its own network
# address, host name and shared memory; all files are shared, as on a cluster's file system.
# The nodes have as many CPUs and GPUs as asked for, whatever the machine has: SLURM deals the GPUs
# out by number (CUDA_VISIBLE_DEVICES), behind which is nothing. LINE is a line more for slurm.conf,
# as in -s MaxArraySize=6.
#
# COMMAND sees VCLUSTER_LOGS, the folder with the daemons' logs, a TMPDIR that vanishes, and
# VCLUSTER_NODE: $VCLUSTER_NODE kill|up|cut|heal NAME (node.sh) breaks and mends nodes.
set -eu

nodes=2 cpus=4 gpus=0 lines=()
while getopts n:c:g:s: option; do
  case $option in
  n) nodes=$OPTARG ;;
  c) cpus=$OPTARG ;;
  g) gpus=$OPTARG ;;
  s) lines+=("$OPTARG") ;;
  *) sed -n '2s/^# /usage: /p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))

if [ -z "${VCLUSTER_INSIDE:-}" ]; then
  export VCLUSTER_INSIDE=1
  exec unshare --fork --kill-child --pid --mount-proc --mount --propagation private \
    --net --uts --ipc -- "$0" -n "$nodes" -c "$cpus" -g "$gpus" "${lines[@]/#/-s}" "$@"
fi
unset VCLUSTER_INSIDE

net=10.77.0
top=/run/vcluster # in the /run of this cluster
node_sh=$(dirname "$(readlink -f "$0")")/node.sh

private_folders() {
  local folder
  for folder in /run /etc/slurm /dev/shm; do
    mount -t tmpfs -o mode=755 tmpfs "$folder"
  done
  mkdir -p /run/netns "$top"/{state,log,tmp}
}

hosts() {
  local i
  echo "127.0.0.1 localhost"
  echo "$net.1 login"
  for ((i = 1; i <= nodes; i++)); do echo "$net.$((10 + i)) n$i"; done
}

# No authentication: nobody else reaches this network. No control groups, no binding to CPUs:
# both would look at the machine below. Nodes are served as soon as there is work.
slurm_conf() {
  local i gres=''
  [ "$gpus" = 0 ] || gres="Gres=gpu:$gpus"
  cat <<END
ClusterName=vcluster
SlurmctldHost=login($net.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation=$top/state
SlurmdSpoolDir=$top/%n/spool
TmpFS=$top/%n/tmp
SlurmctldPidFile=$top/slurmctld.pid
SlurmdPidFile=$top/%n/slurmd.pid
SlurmctldLogFile=$top/log/slurmctld.log
SlurmdLogFile=$top/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=10000,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=1
KillWait=5
END
  for ((i = 1; i <= nodes; i++)); do
    echo "NodeName=n$i NodeAddr=$net.$((10 + i)) CPUs=$cpus RealMemory=1000000 $gres"
  done
  echo "PartitionName=all Nodes=ALL Default=YES"
  printf '%s\n' "${lines[@]}"
}

# slurmd looks at control groups even where nothing uses them, and gives up if it must
# find out the version.
configure() {
  hosts >"$top/hosts"
  mount --bind "$top/hosts" /etc/hosts
  slurm_conf >/etc/slurm/slurm.conf
  echo "CgroupPlugin=cgroup/v1" >/etc/slurm/cgroup.conf
  gpu_files
}

gpu_files() {
  local i
  echo "AutoDetect=off" >/etc/slurm/gres.conf
  for ((i = 0; i < gpus; i++)); do
    mknod "$top/gpu$i" c 1 3
    echo "Name=gpu File=$top/gpu$i" >>/etc/slurm/gres.conf
  done
}

# A bridge with the login node on it and a cable to every node.
connect() {
  local i node
  hostname login
  ip link set lo up
  ip link add bridge type bridge
  ip address add "$net.1/24" dev bridge
  ip link set bridge up
  for ((i = 1; i <= nodes; i++)); do
    node=n$i
    ip netns add "$node"
    ip link add "$node" type veth peer name eth0 netns "$node"
    ip link set "$node" master bridge up
    ip -n "$node" link set lo up
    ip -n "$node" address add "$net.$((10 + i))/24" dev eth0
    ip -n "$node" link set eth0 up
  done
}

start() {
  local i deadline=$((SECONDS + 30))
  slurmctld -i
  for ((i = 1; i <= nodes; i++)); do "$node_sh" up "n$i"; done
  until [ "$(sinfo -h -N -p all -o %T 2>/dev/null | grep -c '^idle$')" = "$nodes" ]; do
    if [ $SECONDS -ge $deadline ]; then
      echo "vcluster.sh: the nodes do not come up" >&2
      sinfo -N -l >&2 || true
      tail -n 20 "$top"/log/* >&2
      exit 1
    fi
    sleep 0.05
  done
}

private_folders
configure
connect
start

unset SLURM_CONF
export VCLUSTER_LOGS=$top/log VCLUSTER_NODE=$node_sh TMPDIR=$top/tmp
# in the background, so that a signal ends this script, and with it all, at once
trap 'exit 143' TERM
trap 'exit 130' INT
"$@" <&0 &
status=0
wait $! || status=$?
exit $status
