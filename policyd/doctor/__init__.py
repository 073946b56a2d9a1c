"""What keeps a rule from having an effect: reads Postfix's configuration, the settings, the tables and the sockets."""
