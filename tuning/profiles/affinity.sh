# Which CPUs handle a network interface's interrupts and packets. Read by the script `affinity` of a profile, which says what is
# wanted; without --apply it only prints what it would write, so that it can be read first.
#
#   affinity --shards 2-3 [--others 0-1] [--apply] [--root DIR] INTERFACE
#
# --shards are the CPUs of the broker (`cores`), --others the rest of the machine. Settings last until the next boot.

shards='' others='' apply=no root='' interface=''
while [ $# -gt 0 ]; do
  case $1 in
    --shards) shards=${2:?}; shift ;;
    --others) others=${2:?}; shift ;;
    --root) root=${2:?}; shift ;;
    --apply) apply=yes ;;
    -*) echo "unknown argument $1; see the head of $(basename "${BASH_SOURCE[0]}")" >&2; exit 2 ;;
    *) interface=$1 ;;
  esac
  shift
done
if [ -z "$shards" ] || [ -z "$interface" ]; then
  echo "usage: $(basename "$0") --shards LIST [--others LIST] [--apply] INTERFACE" >&2
  exit 2
fi
net=$root/sys/class/net/$interface
[ -d "$net" ] || { echo "there is no interface $interface" >&2; exit 2; }

# 0,2-3 -> 0 2 3
expand() {
  local part
  for part in ${1//,/ }; do
    seq "${part%-*}" "${part#*-}"
  done
}

# CPU numbers -> the kernel's mask: 32 bits in each group, the highest first.
mask() {
  local cpu group groups=() text=''
  for cpu in "$@"; do
    group=$((cpu / 32))
    groups[group]=$((${groups[group]:-0} | 1 << (cpu % 32)))
  done
  for ((group = ${#groups[@]} > 0 ? $(printf '%s\n' "${!groups[@]}" | tail -n 1) : 0; group >= 0; group--)); do
    text+=$(printf '%08x,' "${groups[group]:-0}")
  done
  echo "${text%,}"
}

put() { # VALUE FILE
  [ -e "$2" ] || return 0
  echo "$1 > $2"
  if [ "$apply" = yes ]; then
    echo "$1" > "$2"
  fi
}

mapfile -t of_shards < <(expand "$shards")
mapfile -t of_others < <(expand "${others:-$shards}")
if [ "$irq_to" = others ] && [ -z "$others" ]; then
  echo "this profile needs --others: the CPUs that interrupts go to" >&2
  exit 2
fi

# irqbalance would undo all of it.
if [ -z "$root" ] && pgrep -x irqbalance > /dev/null; then
  echo "irqbalance is running; stop it first (systemctl disable --now irqbalance)" >&2
  [ "$apply" = no ] || exit 1
fi

case $irq_to in
  shards) targets=("${of_shards[@]}") ;;
  others) targets=("${of_others[@]}") ;;
esac
number=0
for directory in "$net/device/msi_irqs" "$net/device/../msi_irqs"; do
  [ -d "$directory" ] || continue
  for irq in $(ls "$directory" | sort -n); do
    put "${targets[number % ${#targets[@]}]}" "$root/proc/irq/$irq/smp_affinity_list"
    number=$((number + 1))
  done
  break
done

receive=("$net"/queues/rx-*)
spread=0
if [ "$rps_to" = shards ] && [ ${#receive[@]} -lt ${#of_shards[@]} ]; then
  spread=$(mask "${of_shards[@]}")
fi
for queue in "${receive[@]}"; do
  put "$spread" "$queue/rps_cpus"
  if [ "$rps_to" = shards ]; then
    # The queues share the flows that net.core.rps_sock_flow_entries names.
    put $((32768 / ${#receive[@]})) "$queue/rps_flow_cnt"
  fi
done

if [ "$xps_to" = shards ]; then
  number=0
  for queue in "$net"/queues/tx-*; do
    put "$(mask "${of_shards[number % ${#of_shards[@]}]}")" "$queue/xps_cpus"
    number=$((number + 1))
  done
fi

if [ "$isolate" = yes ]; then
  echo "# and at boot, in the kernel's command line:"
  echo "isolcpus=managed_irq,domain,$shards nohz_full=$shards rcu_nocbs=$shards irqaffinity=$others"
fi
