#!/bin/sh -e
exec mariadb --no-defaults --socket /tmp/mariadb.sock --user root --execute '
create database if not exists app;
create table if not exists app.visits (at datetime);
insert into app.visits values (now());
select count(*) from app.visits'
