#!/bin/sh -e
# Tomcat with one servlet, in a directory of the user's own.
export CATALINA_HOME=/usr/share/tomcat11 CATALINA_BASE=/var/lib/app/tomcat CATALINA_TMPDIR=/tmp
app=$CATALINA_BASE/webapps/ROOT/WEB-INF
mkdir -p "$CATALINA_BASE/conf" "$CATALINA_BASE/logs" "$app/classes"
cp "$CATALINA_HOME"/etc/* "$CATALINA_BASE/conf"
cp /compat/apps/tomcat/context.xml "$CATALINA_BASE/conf"
java -m jdk.compiler/com.sun.tools.javac.Main -cp "$CATALINA_HOME/lib/servlet-api.jar" -d "$app/classes" /compat/apps/tomcat/Index.java
exec "$CATALINA_HOME/bin/catalina.sh" run
