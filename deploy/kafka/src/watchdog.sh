# Runs a program that must not outlive its holder. The holder keeps the other end of standard input: when it closes
# (the holder exited, panicked or was killed with SIGKILL), the program is killed. A line on it asks for one of two ends:
# "stop" (SIGTERM; a second line, or the end of input, makes that SIGKILL) or "kill" (SIGKILL).
# Arguments: log file, folder to remove when the holder is gone ("" = keep it), program, its arguments...
log=$1 remove=$2
shift 2
exec 3<&0 </dev/null
"$@" >>"$log" 2>&1 3<&- &
program=$!
{
  read -r word <&3
  case $word in
    stop)
      kill -TERM $program
      read -r word <&3
      kill -KILL $program
      ;;
    kill) kill -KILL $program ;;
    *)
      trap '' TERM # finish the clean-up: nobody else is left to do it
      kill -KILL $program
      while kill -0 $program; do sleep 0.02; done
      test -z "$remove" || rm -rf "$remove"
      ;;
  esac
} >/dev/null 2>&1 &
watcher=$!
wait $program
code=$?
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null
exit $code
