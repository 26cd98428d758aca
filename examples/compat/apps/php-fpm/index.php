<?php // PHP seeds mt_rand anew for each request.
if (!opcache_get_status(false)['opcache_enabled']) http_response_code(500);
echo mt_rand(), ' ', $_SERVER['REQUEST_ID'], "\n";
