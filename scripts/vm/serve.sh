# Runs what is put on the share of a machine of test/vm: NAME.do is a script, NAME.code has its exit code when NAME.out
# and NAME.err are whole.
cd /run/share || exit 1
while sleep 0.2; do
  for order in *.do; do
    [ -e "$order" ] || continue
    name=${order%.do}
    mv "$order" "$name.sh"
    { sh "$name.sh" </dev/null >"$name.out" 2>"$name.err"; echo $? >"$name.tmp"; mv "$name.tmp" "$name.code"; } &
  done
done
