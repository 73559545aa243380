// What a library of precompiled headers is made of (precompiled.cmake).
