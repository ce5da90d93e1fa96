# For ~/.config/fish/functions/runai_curl.fish: calls curl with a Run:ai token. If the server
# refuses the token (401), the function gets another one and calls curl once more. The token is in
# no argument, no file, no history and no trace of `fish_trace`.
function runai_curl
    set -l fish_trace
    set -l token (runai-credential token); or return
    set -l answer (mktemp); or return
    set -l code (__runai_ask $token $answer $argv)
    set -l failure $status
    if test "$code" = 401
        set token (printf %s $token | runai-credential token --rejected-stdin)
        or begin
            set failure $status
            rm -f $answer
            return $failure
        end
        set code (__runai_ask $token $answer $argv)
        set failure $status
    end
    cat $answer
    rm -f $answer
    test $failure -eq 0; or return $failure
    if test $code -ge 400
        echo "runai_curl: HTTP $code" >&2
        return 22
    end
end

function __runai_ask -a token answer
    set -l fish_trace
    printf 'header = "Authorization: Bearer %s"\n' $token | curl -K - -sS -o $answer -w '%{http_code}' $argv[3..]
end
