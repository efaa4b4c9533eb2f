# Makes a folder and says where, sends signals to the processes that run in it as it is asked to, and, when
# nobody is left who could ask, ends them and removes the folder.
#
# A process is found by its working folder: a server of PostgreSQL and all that it has forked are in its data.
folder=$(mktemp -d -t flows-postgres-XXXXXX) && echo "$folder" || exit

processes() {
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$folder*" -printf '%h\n' 2>/dev/null | cut -d / -f 3
}

finish() {
    while found=$(processes) && [ -n "$found" ]; do
        kill -KILL $found 2>/dev/null
    done
    # What a killed server leaves: a few bytes of shared memory, and files that say it runs, which would be
    # believed where nobody has waited for the end of its process.
    running="$folder/data/postmaster.pid"
    if [ -f "$running" ]; then
        ipcrm -m "$(awk 'NR == 7 { print $2 }' "$running")" 2>/dev/null
        rm -f "$running" "$folder"/.s.PGSQL.*.lock
    fi
}

while read -r signal; do
    case $signal in
        KILL) finish ;;
        # The second time finds also those that were forked meanwhile.
        *) for _ in 1 2; do kill -"$signal" $(processes) 2>/dev/null; done ;;
    esac
    echo done
done
finish
rm -rf "$folder"
