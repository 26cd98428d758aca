%%! -noshell +S 1:1
-mode(compile).

%% What Erlang offers an app that wants something random.
values() ->
    [{<<"rand:uniform">>, float_to_binary(rand:uniform())},
     {<<"crypto:strong_rand_bytes">>, binary:encode_hex(crypto:strong_rand_bytes(16))}].

%% OpenSSL asks the kernel as well. rand has a state in each process that uses it: each has to seed its own.
after_restore(Random) ->
    crypto:rand_seed(Random),
    <<Seed:512>> = Random,
    rand:seed(exsss, Seed).

main(_) ->
    {ok, Listener} = gen_tcp:listen(8080, [binary, {packet, http_bin}, {active, false}, {reuseaddr, true}]),
    loop(Listener).

loop(Listener) ->
    {ok, Client} = gen_tcp:accept(Listener),
    case gen_tcp:recv(Client, 0) of
        {ok, {http_request, Method, {abs_path, Path}, _}} ->
            Length = headers(Client, 0),
            ok = inet:setopts(Client, [{packet, raw}]),
            Method == 'POST' andalso begin
                {ok, Body} = gen_tcp:recv(Client, Length),
                {match, [Hex]} = re:run(Body, "\"random\": *\"([0-9a-f]*)\"", [{capture, all_but_first, binary}]),
                after_restore(binary:decode_hex(Hex))
            end,
            gen_tcp:send(Client, ["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", answer(Path)]);
        _ -> ignored
    end,
    gen_tcp:close(Client),
    loop(Listener).

headers(Client, Length) ->
    case gen_tcp:recv(Client, 0) of
        {ok, {http_header, _, 'Content-Length', _, Value}} -> headers(Client, binary_to_integer(Value));
        {ok, {http_header, _, _, _, _}} -> headers(Client, Length);
        {ok, http_eoh} -> Length
    end.

answer(<<"/random">>) -> ["{", lists:join(",", [["\"", Name, "\":\"", Value, "\""] || {Name, Value} <- values()]), "}"];
answer(_) -> [].
