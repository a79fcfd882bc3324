# Runs in a pod without Python: which of the addresses on stdin ("host port" lines) take a TCP connection from here?
try() {
    if timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; then echo "$1 $2 true"; else echo "$1 $2 false"; fi
}
while read -r host port; do try "$host" "$port" & done
wait
