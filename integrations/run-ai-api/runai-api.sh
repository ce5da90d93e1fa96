# For bash scripts, with curl and jq: `. runai-api.sh`. CONTROL_PLANE is the URL of the control
# plane, such as https://acme.run.ai.

# runai_api METHOD PATH [JSON]: prints the body of the answer. If the server refuses the token
# (401), the function replaces it once. If a role is missing (403), no new token helps.
runai_api() {
    local method=$1 url=$CONTROL_PLANE$2 data=() token answer status attempt
    if (($# > 2)); then data=(--header 'Content-Type: application/json' --data-raw "$3"); fi
    token=$(runai-credential token --url "$url") || return
    for attempt in 1 2; do
        # curl reads the token from standard input: every user of the machine can read arguments.
        answer=$(printf 'header = "Authorization: Bearer %s"\n' "$token" | curl --config - --silent --show-error --max-time 60 \
            --request "$method" --header 'Accept: application/json' ${data+"${data[@]}"} \
            --write-out '\n%{http_code}' "$url") || return
        status=${answer##*$'\n'} answer=${answer%$'\n'*}
        [[ $status == 401 && $attempt == 1 ]] || break
        token=$(printf '%s' "$token" | runai-credential token --url "$url" --rejected-stdin) || return
    done
    case $status in
        2??) printf '%s\n' "$answer" ;;
        401) echo "$method $2: HTTP 401, with a new token too: is it for this control plane? $answer" >&2; return 1 ;;
        403) echo "$method $2: HTTP 403: the token is good, the application has no access rule for this. $answer" >&2; return 1 ;;
        *) echo "$method $2: HTTP $status: $answer" >&2; return 1 ;;
    esac
}

# runai_pages PATH NAME: prints all items of a list that comes in pages under this name, one JSON
# object a line.
runai_pages() {
    local offset=0 page next
    while :; do
        page=$(runai_api GET "$1?offset=$offset&limit=${PAGE_SIZE:-500}") || return
        jq --compact-output --arg name "$2" '.[$name][]' <<<"$page" || return
        next=$(jq --raw-output '.next // 0' <<<"$page")
        # Ends if no page follows, or if the server leads back: that would never end.
        ((next > offset)) || return 0
        offset=$next
    done
}
